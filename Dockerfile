# hrpro in a container. The CUDA libraries come with the torch wheels: the host needs the NVIDIA driver and
# the container toolkit only.
#   docker build -t hrpro .
#   docker run --rm --gpus all -v "$PWD":/data hrpro extract /data/videos --out /data/features
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    HRPRO_CACHE=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

RUN useradd --create-home --uid 1000 hrpro \
    && install -d -o hrpro -g hrpro /cache /data

WORKDIR /opt/hrpro

# The large, slow layer: dependencies change rarely, code often.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir hrpro_pipeline && touch hrpro_pipeline/__init__.py \
    && pip install -c constraints.txt . \
    && pip uninstall --yes hrpro-pipeline

COPY hrpro_pipeline hrpro_pipeline
RUN pip install --no-deps .

USER hrpro
WORKDIR /data
VOLUME ["/cache", "/data"]
ENTRYPOINT ["hrpro"]
CMD ["--help"]
