# The image of confpy. docker build -t confpy . needs the package index of Python; without it, put the wheels into
# dist/wheels, as scripts/package image does, and build with PIP_NO_INDEX=1 and PIP_FIND_LINKS=dist/wheels.
ARG PYTHON=3.13-slim

FROM python:${PYTHON} AS build
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY . .
# Compiled here, since images often set PYTHONDONTWRITEBYTECODE, and never compared with the sources again: they come and
# go together. pip and setuptools are for this stage alone.
RUN python3 -m venv /opt/confpy \
    && /opt/confpy/bin/pip install --no-cache-dir --no-compile . \
    && /opt/confpy/bin/pip uninstall --yes --quiet setuptools pip \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/confpy

FROM python:${PYTHON}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="confpy" \
      org.opencontainers.image.description="Keeps configuration files in step with etcd, Consul, the environment or files" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /opt/confpy /opt/confpy
# By number: Kubernetes' runAsNonRoot knows no names.
RUN groupadd --gid 10001 confpy \
    && useradd --uid 10001 --gid confpy --no-create-home --home-dir /var/lib/confpy --shell /usr/sbin/nologin confpy \
    && install -d /etc/confpy/conf.d /etc/confpy/templates \
    && install -d -o confpy -g confpy -m 0750 /var/lib/confpy /var/cache/confpy /run/confpy \
    && ln -s /opt/confpy/bin/confpy /usr/local/bin/confpy
USER 10001:10001
# Owed reloads, cached keys, history.
VOLUME /var/lib/confpy
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["confpy", "status"]
ENTRYPOINT ["confpy"]
CMD ["-watch"]
