# nginx with confpy in its image: confpy renders the configuration, starts nginx, reloads it, and ends with it.
# README.md says how the image confpy-folder is made, and what to do for nginx:*-alpine.
ARG NGINX=1.26
ARG TAG=glibc

FROM confpy-folder:${TAG} AS confpy

FROM nginx:${NGINX}
COPY --from=confpy /confpy /opt/confpy
COPY conf.d /etc/confpy/conf.d
COPY templates /etc/confpy/templates
ENV PATH=/opt/confpy/bin:$PATH
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["confpy", "status"]
ENTRYPOINT ["confpy"]
CMD ["-watch", "-backend", "etcdv3", "-node", "http://etcd:2379", \
     "-exec-stop-signal", "QUIT", "-exec", "nginx", "-g", "daemon off;"]
