# Serves a page, and is registered in etcd while it does: with a lease, so that a container that dies vanishes.

ask() { timeout 5 wget -q -O - --post-data "$2" "$ETCD/v3/$1"; }
encode() { printf %s "$1" | base64 | tr -d '\n'; }

register() {
    lease=$(ask lease/grant '{"TTL": 15}' | sed -n 's/.*"ID":"\([0-9]*\)".*/\1/p')
    key=$(encode "$KEY") value=$(encode "$(hostname -i):8080")
    ask kv/put "{\"key\": \"$key\", \"value\": \"$value\", \"lease\": \"$lease\"}" > /dev/null
}

trap 'ask lease/revoke "{\"ID\": \"$lease\"}" > /dev/null; exit 0' TERM INT
mkdir -p /tmp/www
hostname > /tmp/www/index.html
httpd -h /tmp/www -p 8080
while :; do
    # A lease that has expired, because etcd was away for long, is replaced.
    ask lease/keepalive "{\"ID\": \"${lease:-0}\"}" | grep -q '"TTL"' || register
    sleep 5 &
    wait $!
done
