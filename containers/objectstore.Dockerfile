# An object store on one machine, for those who have no S3: Ceph's monitor, one OSD on a file, and its gateway.
#
#   docker build -f containers/objectstore.Dockerfile -t gridtune/objectstore containers
#
# It speaks HTTP without TLS on port 8480. All state is in the volume /data; settings are variables OBJECTSTORE_…, see
# objectstore.py. A base image that has Ceph's programs needs nothing installed.
ARG BASE_IMAGE=debian:12-slim
FROM ${BASE_IMAGE}
RUN command -v radosgw >/dev/null || { \
        apt-get update \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ceph-mon ceph-osd radosgw ceph-common \
        && rm -rf /var/lib/apt/lists/*; \
    }
COPY objectstore.py /usr/local/bin/objectstore
RUN mkdir -m 700 /data && chown 10001:10001 /data
# A number, for orchestrators that refuse names: they cannot know whether one is root's.
USER 10001:10001
ENV HOME=/tmp
VOLUME /data
EXPOSE 8480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=180s CMD test -e /tmp/ready
CMD ["/usr/bin/python3", "/usr/local/bin/objectstore"]
