# One image for every command: mnist-main, mnist-compute, mnist-status, mnist-relay, mnist-keys.
FROM python:3.11-slim AS build
# Where a build of torch without CUDA is found; with "" whatever pip finds otherwise.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python -m venv /opt/venv
WORKDIR /src
COPY constraints.txt setup.cfg ./
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install -c constraints.txt torch
# What the project needs, before the project: a change of its code installs nothing else anew.
RUN python -c "from configparser import ConfigParser as C; c = C(); c.read('setup.cfg'); \
        print(c['options']['install_requires'], c['options.extras_require']['s3'])" > needs.txt \
    && pip install -c constraints.txt -r needs.txt
COPY pyproject.toml README.md LICENSE ./
COPY mnist_merge.py ./
COPY protocol protocol
COPY console console
COPY status_node status_node
COPY loaders loaders
COPY learning learning
COPY main_node main_node
COPY computing_node computing_node
COPY relay_node relay_node
RUN pip install --no-deps . \
    # What is only for building on top of the libraries, or for testing them.
    && find /opt/venv -depth \( -name tests -o -name test \) -path '*/site-packages/*' \
        -not -path '*/torch/*' -not -path '*/numpy/*' -exec rm -rf {} + \
    && rm -rf /opt/venv/lib/python3.11/site-packages/torch/include \
    && find /opt/venv/lib/python3.11/site-packages/torch/bin -type f \
        -not -name torch_shm_manager -delete \
    && pip uninstall -q -y setuptools pip

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
# Containers run as whoever owns the run directory, mostly a user without a name here.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp USER=mnist MPLCONFIGDIR=/tmp/matplotlib \
    MNIST_CACHE=/data NUMBA_CACHE_DIR=/cache
USER 1000:1000
CMD ["mnist-compute", "--help"]
