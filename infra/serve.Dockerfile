# The server of an exported model: onnxruntime and no torch, no root, nothing written outside /tmp.
#
#   docker build -f infra/serve.Dockerfile -t macula-serve .                    # the model is mounted at /models
#   docker build -f infra/serve.Dockerfile -t macula-serve:digits-1 --target baked \
#     --build-arg MODEL=data/export/model.onnx \
#     --build-arg CARD=data/model_card/model-card.md .                                # the model is inside, with its card
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -v "$PWD/models:/models:ro" \
#     -p 127.0.0.1:8000:8000 --env-file infra/.env macula-serve

# The Python that the tests run on.
ARG PYTHON=3.11-slim-trixie

FROM python:${PYTHON} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv
WORKDIR /build
COPY infra/locks/uv.txt infra/locks/build.txt infra/locks/serving.txt infra/locks/
RUN python -m pip install --no-cache-dir --root-user-action ignore --require-hashes -r infra/locks/uv.txt
# Compiled here, as nothing can be written later. The tests that packages bring along stay behind.
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv /opt/macula \
 && uv pip sync --require-hashes --compile-bytecode --python /opt/macula infra/locks/serving.txt \
 && find /opt/macula -type d -name tests -prune -exec rm -r {} +
COPY pyproject.toml README.md LICENSE ./
COPY stages stages
RUN --mount=type=cache,target=/var/cache/uv \
    uv build --wheel --build-constraints infra/locks/build.txt --require-hashes \
 && uv pip install --no-deps --compile-bytecode --python /opt/macula dist/*.whl

FROM python:${PYTHON} AS runtime
LABEL org.opencontainers.image.title="macula-serve" \
      org.opencontainers.image.description="Answers of a model that Macula exported, over HTTP"
COPY --from=build /opt/macula /opt/macula
# Safe path: a folder that is mounted never hides the code.
ENV PATH=/opt/macula/bin:$PATH HOME=/tmp PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /models
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
# No shell between, so that SIGTERM reaches the server. Loopback alone would be out of reach from outside the container.
ENTRYPOINT ["python", "-m", "stages.serve"]
CMD ["/models/model.onnx", "--host", "0.0.0.0", "--port", "8000"]

# With a model and its card inside: an image is then one model, and is rolled out and back like any other.
FROM runtime AS baked
ARG MODEL=data/export/model.onnx
ARG CARD=data/model_card/model-card.md
COPY --chmod=444 ${MODEL} /models/model.onnx
COPY --chmod=444 ${CARD} /models/model-card.md
RUN python -c "from hashlib import sha256; from pathlib import Path; \
    digest = sha256(Path('/models/model.onnx').read_bytes()).hexdigest(); \
    assert digest in Path('/models/model-card.md').read_text(), 'CARD is of another model than MODEL'"

# Built where no target is named: the model comes from outside.
FROM runtime AS mounted
