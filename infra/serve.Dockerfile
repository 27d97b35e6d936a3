# Server of an exported model: onnxruntime without torch, no root user, writes only to /tmp.
#
#   docker build -f infra/serve.Dockerfile -t macula-serve .                    # the model is mounted at /models
#   docker build -f infra/serve.Dockerfile -t macula-serve:digits-1 --target baked \
#     --build-arg MODEL=data/export/model.onnx \
#     --build-arg CARD=data/model_card/model-card.md .                                # the image contains the model and its card
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -v "$PWD/models:/models:ro" \
#     -p 127.0.0.1:8000:8000 --env-file infra/.env macula-serve

# The Python version of the tests.
ARG PYTHON=3.11-slim-trixie

FROM python:${PYTHON} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv
WORKDIR /build
COPY infra/locks/uv.txt infra/locks/build.txt infra/locks/serving.txt infra/locks/
RUN python -m pip install --no-cache-dir --root-user-action ignore --require-hashes -r infra/locks/uv.txt
# Compile to bytecode here, because the file system is read-only later. The packages' own tests are not copied.
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
      org.opencontainers.image.description="Predictions of a model exported by Macula, over HTTP"
COPY --from=build /opt/macula /opt/macula
# Safe path: a mounted working directory cannot shadow the code.
ENV PATH=/opt/macula/bin:$PATH HOME=/tmp PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /models
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
# Exec form without a shell, so that SIGTERM reaches the server. Loopback is not reachable from outside the container.
ENTRYPOINT ["python", "-m", "stages.serve"]
CMD ["/models/model.onnx", "--host", "0.0.0.0", "--port", "8000"]

# Image with a model and its card: each model has its own image, which can be rolled out and rolled back.
FROM runtime AS baked
ARG MODEL=data/export/model.onnx
ARG CARD=data/model_card/model-card.md
COPY --chmod=444 ${MODEL} /models/model.onnx
COPY --chmod=444 ${CARD} /models/model-card.md
RUN python -c "from hashlib import sha256; from pathlib import Path; \
    digest = sha256(Path('/models/model.onnx').read_bytes()).hexdigest(); \
    assert digest in Path('/models/model-card.md').read_text(), 'CARD is of another model than MODEL'"

# Default target: the model is mounted.
FROM runtime AS mounted
