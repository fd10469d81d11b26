# hrpro in a container. CUDA comes with the torch wheels: the host needs the NVIDIA driver and its container toolkit only.
#   docker build -t hrpro .
#   docker run --rm --gpus all -v "$PWD/videos":/videos:ro -v "$PWD/features":/features -v hrpro-cache:/cache \
#       hrpro extract /videos --out /features
# Layers go from what changes least to what changes most; the code is copied, not installed, so that a change of it
# builds in seconds. `make image-test` builds and tries it without Docker.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# libavdevice brings all of FFmpeg's libraries (torchcodec; NVDEC), gcc and Python's headers are for Triton, which
# compiles its launchers where they run; python3-dev also brings libpython, which torchcodec links. tini passes on
# signals, which a first process would not get, and buries the dead.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates gcc libavdevice59 libc6-dev python3-dev python3-venv tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
    && useradd --uid 1000 --home-dir /cache --no-create-home --shell /bin/bash hrpro \
    && mkdir /videos \
    && install --directory --mode 1777 --owner hrpro --group hrpro /cache /data /features /models \
    && python3 -m venv /opt/venv

WORKDIR /opt/hrpro
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The dependencies, from these two files alone. The package is installed as a link to this folder and is still empty.
# TORCH_INDEX is one of PyTorch's own indices, as https://download.pytorch.org/whl/cpu: without it, PyPI's CUDA build.
ARG TORCH_INDEX=
COPY pyproject.toml constraints.txt ./
RUN mkdir hrpro_pipeline && touch hrpro_pipeline/__init__.py README.md LICENSE \
    && if [ -n "$TORCH_INDEX" ]; then \
        pip install --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision torchcodec; fi \
    && pip install --constraint constraints.txt --editable '.[figures,gpu,ray,s3]'

# Any user may run it (`--user`): what is written at run time goes to /cache, and USER is for a uid without a name.
ENV HOME=/cache USER=hrpro PYTHONUNBUFFERED=1 \
    HRPRO_CACHE=/cache/weights NUMBA_CACHE_DIR=/cache/numba \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

COPY LICENSE ./
COPY hrpro_pipeline hrpro_pipeline
RUN python -m compileall -q hrpro_pipeline

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="hrpro" \
    org.opencontainers.image.description="From raw untrimmed videos and one labeled point per action to a trained temporal action detector" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"

USER hrpro
WORKDIR /data
VOLUME ["/cache", "/data", "/features", "/models", "/videos"]
ENTRYPOINT ["tini", "--", "hrpro"]
CMD ["--help"]
