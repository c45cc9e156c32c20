# JAX's packages bring CUDA along, so the base needs only Python; the host needs NVIDIA's driver and its
# container toolkit. Build with `--build-arg CUDA=cuda13` for driver 580 or newer.
FROM python:3.13-slim
ARG CUDA=cuda12
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PIP_NO_CACHE_DIR=1
WORKDIR /opt/magmax_jax
# Packages first: their layer is kept while only the product's own files change.
COPY requirements.txt ./
COPY magmax_jax/packages magmax_jax/packages
RUN pip install -r requirements.txt -r magmax_jax/packages/devices/${CUDA}.txt
COPY pyproject.toml README.md LICENSE ./
COPY magmax_jax magmax_jax
RUN pip install --no-deps .
RUN useradd --create-home magmax
USER magmax
WORKDIR /home/magmax
ENTRYPOINT ["magmax"]
CMD ["doctor"]
