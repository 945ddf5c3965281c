# The image of cluster/kubernetes/rayservice.yaml: docker build -t rayfeed:0.2.0 .
FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash git make wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray
COPY --chown=ray:ray . /home/ray/rayfeed
USER ray
WORKDIR /home/ray/rayfeed
RUN make install
ENV PATH=/home/ray/rayfeed/.venv/bin:$PATH
