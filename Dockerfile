# The image of an odradek worker. Apps go into /app: see docs/deploy.md.

# The Python that the tests run with. A journal notes its minor version, so change it between releases, not between restarts.
ARG PYTHON_VERSION=3.11
# sha256:… of that image where it shall be that one and no other: docker build --build-arg PYTHON_DIGEST=sha256:…
ARG PYTHON_DIGEST=""

FROM python:${PYTHON_VERSION}-slim${PYTHON_DIGEST:+@$PYTHON_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies come first and alone: a change of the code does not fetch them again. Each has the hash that was noted for it (make
# constraints). Wheels only, as there is no compiler here.
COPY deploy/requirements.txt deploy/build-requirements.txt ./
RUN python -m venv /opt/odradek && python -m venv /opt/build \
    && /opt/odradek/bin/pip install --require-hashes --only-binary :all: --requirement requirements.txt \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: --requirement build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY sdk sdk
COPY runtime runtime
COPY connectors connectors
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/odradek/bin/pip install --no-deps wheels/*.whl \
    && /opt/odradek/bin/odradek --help > /dev/null

FROM python:${PYTHON_VERSION}-slim${PYTHON_DIGEST:+@$PYTHON_DIGEST}
LABEL org.opencontainers.image.title="odradek" \
      org.opencontainers.image.description="Durable execution for Python, on Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
# /data belongs to the worker, so that a fresh named volume does too; code stays root's, and with it out of the worker's reach.
RUN groupadd --gid 65532 odradek \
    && useradd --uid 65532 --gid 65532 --home-dir /data --no-create-home --shell /usr/sbin/nologin odradek \
    && install --directory --owner=65532 --group=65532 /data \
    && install --directory /app
COPY --from=build /opt/odradek /opt/odradek
ENV PATH=/opt/odradek/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ODRADEK_DATA_DIR=/data \
    ODRADEK_HOST=0.0.0.0
WORKDIR /app
USER 65532:65532
VOLUME ["/data"]
EXPOSE 8080 9070
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('ODRADEK_ADMIN_PORT', '9070') + '/health', timeout=4)"]
ENTRYPOINT ["odradek"]
CMD ["run"]
