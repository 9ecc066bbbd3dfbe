#!/bin/sh
# one line a service
{{range $dir := lsdir "/services"}}{{$pattern := printf "/services/%s/*" $dir}}
echo "{{toUpper $dir}}: {{range $i, $kv := gets $pattern}}{{if $i}}, {{end}}{{base $kv.Key}}{{end}} ({{len (gets $pattern)}})"{{end}}
for address in{{range getvs "/services/web/*"}}{{$part := split . ":"}} {{index $part 0}}/{{index $part 1}}{{end}}; do
    echo "$address"
done
