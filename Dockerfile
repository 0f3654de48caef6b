# One image for worker, emulator and tools. `make image` lints, builds and runs it.
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) -t groupage .
# The base is a tag that moves, so that each build gets Debian's and Python's latest security fixes; a digest written here
# would keep yesterday's, and could not be checked where this is developed, which has no registry. Two builds of one commit
# may differ in what is not locked by hash below. To repeat a build: --build-arg BASE=python:3.13-slim@sha256:...
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# pip and the build backend stay in an environment that is left behind
RUN python -m venv /tools && python -m venv --without-pip /opt/groupage
# dependencies first: they change less often than the code, so this layer is kept
COPY requirements/ requirements/
RUN /tools/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
 && /tools/bin/pip --python /opt/groupage/bin/python install --require-hashes --only-binary :all: -r requirements/image.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY producers/ producers/
COPY worker/ worker/
COPY emulator/ emulator/
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /tools/bin/pip --python /opt/groupage/bin/python install --no-deps --no-index /dist/*.whl

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="groupage" \
      org.opencontainers.image.description="Packs single LLM calls into Azure OpenAI batch files, and brings every reply back" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# a user without a name, password or shell; /spool is the one place it may write to, and stands for a mounted volume
RUN install -d -o 10001 -g 10001 -m 0700 /spool
COPY --from=build /opt/groupage /opt/groupage
# TMPDIR: input files are spooled there unless gather.spool_dir names another place
ENV PATH=/opt/groupage/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/spool \
    TMPDIR=/spool
USER 10001:10001
WORKDIR /spool
VOLUME /spool
EXPOSE 9464
STOPSIGNAL SIGTERM
# exec form: the process is PID 1 and gets SIGTERM itself
CMD ["groupage-worker", "run"]
