# The service. The context is the repository:
#
#   docker build -f containers/steering.Dockerfile -t gridtune/steering .
#   docker run --init --volume gridtune:/data --publish 127.0.0.1:8470:8470 gridtune/steering
#
# It speaks HTTP without TLS on port 8470: put a proxy before it. All state is in the volume /data, with the operator's
# token in /data/operator.token; the image holds no secret. Settings are variables GRIDTUNE_STEERING_….
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# Where pip finds packages is said from outside, and this stage is not part of the image: --build-arg PIP_INDEX_URL=…
# (no passwords: a builder's history keeps it). Without a network: `make wheels` on a machine with the image's Python
# version, then --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/source/wheels.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
WORKDIR /source
COPY . .
RUN python3 -m venv --without-pip /opt/gridtune \
    && python3 -m pip --python /opt/gridtune/bin/python install --no-cache-dir -c constraints.txt '.[steering,opentelemetry]' \
    && python3 -m pip install --no-cache-dir --no-deps --only-binary :all: --python-version 3.9 \
        --target /opt/gridtune/agent-libraries -r agent-constraints.txt \
    && mkdir /data

FROM ${BASE_IMAGE}
COPY --from=build /opt/gridtune /opt/gridtune
# A number, for orchestrators that refuse names: they cannot know whether one is root's.
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/gridtune/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    GRIDTUNE_DATA=/data \
    GRIDTUNE_STEERING_DATA=/data \
    GRIDTUNE_STEERING_AGENT_LIBRARIES=/opt/gridtune/agent-libraries
USER 10001:10001
VOLUME /data
EXPOSE 8470
# The service itself says where it listens, so that this fits to any --host and --port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import json, urllib.request; urllib.request.urlopen(json.load(open('/data/service.json'))['url'] + '/healthz', timeout=4)"]
CMD ["gridtune", "serve", "--host", "0.0.0.0"]
