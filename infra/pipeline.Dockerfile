# Image for the Prefect server, workers and runs: the locked packages of the pipeline, git, and the code of the flows.
#
#   docker build -f infra/pipeline.Dockerfile -t macula-pipeline .
#
# A run uses the code of the flows in the image, and trains with the code of MACULA_REPOSITORY, which it clones.

# The Python version of the tests.
ARG PYTHON=3.11-slim-trixie

FROM python:${PYTHON} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv
WORKDIR /build
COPY infra/locks/uv.txt infra/locks/pipeline.txt infra/locks/
RUN python -m pip install --no-cache-dir --root-user-action ignore --require-hashes -r infra/locks/uv.txt
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv /opt/macula \
 && uv pip sync --require-hashes --compile-bytecode --python /opt/macula infra/locks/pipeline.txt

FROM python:${PYTHON} AS runtime
LABEL org.opencontainers.image.title="macula-pipeline" \
      org.opencontainers.image.description="Flows of Macula: Prefect server, worker and runs"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/macula /opt/macula
WORKDIR /code
COPY pyproject.toml README.md LICENSE params.yaml dvc.yaml ./
COPY stages stages
COPY flows flows
COPY infra infra
ENV PATH=/opt/macula/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PREFECT_HOME=/tmp/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1
# A new volume takes over the mode of its folder, so that MACULA_USER can be any user.
RUN install -d -m 1777 /state /cache /leases
USER 65532:65532
CMD ["python", "-m", "prefect", "version"]
