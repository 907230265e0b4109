# An image of yours with the agent inside. The context is a folder that holds gridtune-agent.pyz: `make agent` fills
# dist/ with it, and every service hands it out at /api/v1/agent/gridtune-agent.pyz.
#
#   docker build -f containers/evaluation.Dockerfile --build-arg BASE_IMAGE=me/train:1.2 -t me/train:1.2-gridtune dist
#
# The image needs a Python 3.9 or newer as python3 in its PATH. Its user, working directory and entry point stay what
# they are; the command is `gridtune-agent --server … --task …`. Any user can run it.
ARG BASE_IMAGE=python:3.12-slim
FROM ${BASE_IMAGE}
COPY gridtune-agent.pyz /usr/local/bin/gridtune-agent
# The agent is in the image already, so payloads are processes beside it, also of tasks that name an image.
ENV GRIDTUNE_RUNTIME=process
