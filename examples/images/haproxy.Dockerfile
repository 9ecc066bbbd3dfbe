# HAProxy with confpy in its image: confpy renders the configuration, starts HAProxy, reloads it, and ends with it.
# README.md says how the image confpy-folder is made, and what to do for haproxy:*-alpine.
ARG HAPROXY=3.0
ARG TAG=glibc

FROM confpy-folder:${TAG} AS confpy

FROM haproxy:${HAPROXY}
COPY --from=confpy /confpy /opt/confpy
COPY conf.d /etc/confpy/conf.d
COPY templates /etc/confpy/templates
# The image's user haproxy (99) writes the configuration, and what confpy has to remember.
USER 0
RUN mkdir -p /etc/haproxy /var/lib/confpy && chown 99:99 /etc/haproxy /var/lib/confpy
USER 99:99
ENV PATH=/opt/confpy/bin:$PATH
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["confpy", "status"]
ENTRYPOINT ["confpy"]
CMD ["-watch", "-backend", "etcdv3", "-node", "http://etcd:2379", \
     "-exec", "haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]
