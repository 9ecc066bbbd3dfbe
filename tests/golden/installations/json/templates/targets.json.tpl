[{{range $i, $dir := lsdir "/services"}}{{if $i}},{{end}}
  {"labels": {"job": "{{$dir}}"}, "targets": [{{range $n, $kv := gets (printf "/services/%s/*" $dir)}}{{with json $kv.Value}}{{if $n}}, {{end}}"{{.ip}}:{{.port}}"{{end}}{{end}}]}{{end}}
]
