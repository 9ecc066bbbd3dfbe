#!/bin/sh
# one line a service

echo "LB: balance, stats (2)"
echo "WEB: core-1:web_1:8000, core-1:web_2:8000, core-2:web_1:8000 (3)"
echo "WEBSITE: core-3:other:80 (1)"
for address in 127.0.0.1/18085 127.0.0.1/18086 127.0.0.1/18087; do
    echo "$address"
done
