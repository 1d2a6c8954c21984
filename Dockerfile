# The workers and the `catalog` command, without the embedded stack. Every package by version and hash.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies first: this layer is made again only when the lock changes. What is shipped gets no pip of its own.
COPY requirements.txt requirements-build.txt ./
RUN python -m venv --without-pip /opt/catalog \
    && python -m pip --python /opt/catalog/bin/python install --require-hashes --requirement requirements.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes --requirement requirements-build.txt
COPY . .
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist \
    && python -m pip --python /opt/catalog/bin/python install --no-deps --no-index /dist/*.whl \
    && python -m pip --python /opt/catalog/bin/python check

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="catalog-workers" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 catalog \
    && useradd --system --uid 10001 --gid catalog --no-create-home --shell /usr/sbin/nologin catalog
COPY --from=build /opt/catalog /opt/catalog
ENV PATH=/opt/catalog/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/catalog
USER 10001:10001
# SIGTERM (Docker's default) drains: a worker finishes or gives back its batch, and acks what it decided.
# Health is asked where the ports are known: compose.yaml, or the orchestrator's probes (/live, /ready).
ENTRYPOINT ["catalog"]
CMD ["--help"]
