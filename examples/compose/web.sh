# Serves a page, and is registered in etcd while it does: with a lease, so that a container that dies vanishes.

mkdir -p /tmp/www
hostname > /tmp/www/index.html
exec confpy register "$KEY" "$(hostname -i | cut -d ' ' -f 1):8080" -ttl 15s -drain 2s -check-tcp 127.0.0.1:8080 \
    -backend etcdv3 -node "$ETCD" -- python3 -m http.server --directory /tmp/www 8080
