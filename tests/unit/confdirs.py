# ruff: noqa: E501  # a mistake is read in one line
"""Confdirs for ``confpy check``: thirty that are healthy, and mistakes to plant. Their forms are those that people use."""

from __future__ import annotations

from pathlib import Path

MARK = "§"
"""Stands in a planted mistake where it is to be found, and is not written."""


def write(folder: Path, files: dict[str, str]) -> tuple[str, int, int] | None:
    """Write files; returns where the mark stood: the file, its line and its column."""
    place = None
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before, mark, after = text.partition(MARK)
        if mark:
            place = (str(path), before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
        path.write_bytes((before + after).encode("utf-8", "surrogateescape"))
    return place


def resource(name: str, *lines: str, src: str = "", keys: str = '["/app"]', dest: str = "") -> dict[str, str]:
    """Return the file of a resource, with more lines."""
    own = [f'src = "{src or name + ".j2"}"', f'dest = "{dest or "/etc/app/" + name}"', f"keys = {keys}"]
    return {f"conf.d/{name}.toml": "\n".join(["[template]", *own, *lines, ""])}


def pair(
    name: str, template: str, *lines: str, src: str = "", keys: str = '["/app"]', dest: str = ""
) -> dict[str, str]:
    """Return a resource and its template."""
    src = src or f"{name}.j2"
    return {**resource(name, *lines, src=src, keys=keys, dest=dest), f"templates/{src}": template}


GOOD = '{{ getv("/app/port", "80") }}\n'

HEALTHY: dict[str, dict[str, str]] = {
    "keys of three stores": {
        **pair(
            "three",
            '{{ getv("/app/port") }} {{ getv("/secrets/db") }} {{ getv("/env/home") }}\n',
            keys='["/app", "/secrets/db", "/env"]',
        ),
        "confpy.toml": 'backend = "consul"\n[mounts]\n"/secrets" = { backend = "file", file = "/s.yaml" }\n"/env" = { backend = "env" }\n',
    },
    "a folder per service, in Go": pair(
        "lb",
        'frontend http\n  bind :80\n{{range $dir := lsdir "/services"}}\nbackend {{$dir}}\n'
        '{{range gets (printf "/services/%s/*" $dir)}}  server {{base .Key}} {{.Value}} check\n{{end}}{{end}}',
        'check_cmd = "haproxy -c -f {{.src}}"',
        'reload_cmd = "haproxy -f /etc/app/lb -p /run/lb.pid -D -sf $(cat /run/lb.pid)"',
        src="lb.cfg.tmpl",
        keys='["/services"]',
    ),
    "a flat list, in Go": pair(
        "up",
        'upstream app {\n{{range getvs "/up/*"}}    server {{.}};\n{{end}}}\n',
        'check_cmd = "nginx -t"',
        'reload_cmd = "nginx -s reload"',
        src="up.conf.tmpl",
        keys='["/up"]',
    ),
    "values that are JSON, in Go": pair(
        "json",
        '{{range gets "/members/*"}}{{$m := json .Value}}server {{base .Key}} {{$m.ip}}:{{$m.port}}\n{{end}}',
        src="json.tmpl",
        keys='["/members"]',
    ),
    "scalars, in Go": pair(
        "db", 'host={{getv "/db/host"}}\nuser={{getv "/db/user" "root"}}\n', src="db.tmpl", keys='["/db"]'
    ),
    "a comma between entries, in Go": pair(
        "hosts",
        'hosts: [{{range $i, $e := getvs "/h/*"}}{{if $i}},{{end}}"{{$e}}"{{end}}]\n',
        src="hosts.tmpl",
        keys='["/h"]',
    ),
    "a path in a variable, in Go": pair(
        "deep",
        '{{$base := getenv "BASE"}}{{range ls (printf "%s/web" $base)}}{{.}}\n{{end}}',
        src="deep.tmpl",
        keys='["/any/web"]',
    ),
    "a condition, in Go": pair(
        "tls",
        '{{if exists "/tls/on"}}ssl on;{{else}}ssl off;{{end}}\n{{with $x := getv "/tls/ca" ""}}ca {{$x}};{{end}}\n',
        src="tls.tmpl",
        keys='["/tls"]',
    ),
    "blocks of its own, in Go": pair(
        "parts",
        '{{define "row"}}{{.Key}}={{.Value}}\n{{end}}{{range gets "/p/*/name"}}{{template "row" .}}{{end}}',
        src="parts.tmpl",
        keys='["/p"]',
    ),
    "the key in a map, in Go": pair(
        "map",
        '{{range $name, $address := json (getv "/map")}}server {{$name}} {{$address}} check\n{{end}}',
        src="map.tmpl",
        keys='["/map"]',
    ),
    "no action at all": pair("motd", "# 100 % plain\n", src="motd", keys="[]"),
    "no action, and the root as a key": pair("copy", "plain = yes\n", src="copy.properties", keys='["/"]'),
    "the environment alone": pair("env", 'home={{getenv "HOME"}}\n', src="env.tmpl", keys="[]"),
    "keys without a leading slash": pair("slash", '{{getv "/app/x"}}\n', src="slash.tmpl", keys='["app"]'),
    "a prefix": pair("pre", '{{ getv("/web/port") }}\n', 'prefix = "/production"', keys='["/web"]'),
    "many keys": pair(
        "many",
        "".join(f'{{{{ getv("/k{n}/v") }}}}\n' for n in range(30)),
        keys="[\n" + "".join(f'  "/k{n}",  # {n}\n' for n in range(30)) + "]",
    ),
    "owner, group, mode and numbers": pair(
        "owned", GOOD, 'owner = "nobody"', 'group = "haproxy"', 'mode = "0640"', "backup = 3", "mkdir = true"
    ),
    "commands as lists": pair(
        "lists", GOOD, 'check_cmd = ["app", "--check", "{{ .src }}"]', 'reload_cmd = ["kill", "-HUP", "1"]'
    ),
    "a script that reads its variable": pair(
        "script", GOOD, 'check_cmd = "/usr/local/bin/check $CONFPY_SRC"', 'reload_cmd = "/usr/local/bin/go || true"'
    ),
    "a script that says that it reads it": pair(
        "staged", GOOD, 'check_cmd = "/usr/local/bin/check"', 'check_mode = "staged"', 'reload_cmd = "true"'
    ),
    "reloads without a command": pair(
        "signal", GOOD, 'reload_signal = "HUP"', 'reload_pidfile = "/run/nginx.pid"', 'reload_process = "nginx"'
    ),
    "several files that belong together": {
        **pair("one", GOOD, 'group = "lb"', 'check_cmd = "haproxy -c -f $CONFPY_SRC_ONE -f $CONFPY_SRC_TWO"'),
        **pair("two", GOOD, 'group = "lb"', 'check_cmd = "haproxy -c -f $CONFPY_SRC_ONE -f $CONFPY_SRC_TWO"'),
    },
    "one template for several": {
        **resource("a", src="shared/web.tmpl", keys='["/app"]'),
        **resource("sub/b", src="/shared/web.tmpl", keys='["/app"]', dest="/etc/app/b"),
        "templates/shared/web.tmpl": '{{getv "/app/port"}}\n',
    },
    "servers by their keys, in Jinja": pair(
        "servers",
        "{% for key, address in gets('/app/backends/*') | select_valid -%}\n"
        "server {{ base(key) }} {{ address }} check # {{ loop.index }}\n{% endfor %}",
    ),
    "included parts, in Jinja": {
        **pair("page", '{% set title = getv("/app/title") %}{% include "parts/head.j2" %}\n'),
        "templates/parts/head.j2": "<h1>{{ title }}</h1>\n",
    },
    "macros, in Jinja": {
        **pair(
            "macro",
            '{% from "parts/m.j2" import row with context %}{% for k, v in gets("/app/*") %}{{ row(k, v) }}{% endfor %}\n',
        ),
        "templates/parts/m.j2": "{% macro row(k, v) %}{{ loop.index if loop is defined }} {{ k }}={{ v }}{% endmacro %}\n",
    },
    "a parent, in Jinja": {
        **pair("child", '{% extends "base.j2" %}{% block body %}{{ getv("/app/x") }}{% endblock %}\n'),
        "templates/base.j2": "<{% block body %}{% endblock %}>\n",
    },
    "computed keys, in Jinja": pair(
        "computed",
        '{% set base = "/app" %}{% for name in ls(base ~ "/sites") %}{{ getv(base ~ "/sites/" ~ name) }}\n'
        "{{ getv('/app/%s/x' % name, '') }}{% endfor %}{{ \"/app/y\" | getv }}{{ flag | default('no') }}\n",
    ),
    "other delimiters, a BOM, CRLF and no last line end": {
        "conf.d/odd.toml": '\ufeff[template]\r\nsrc = "odd.j2"\r\ndest = "/etc/app/ödd"\r\nkeys = ["/app"]\r\n'
        'delimiters = ["[[", "]]"]\r\n',
        "templates/odd.j2": '{{ $labels.instance }} [[ getv("/app/größe") ]]\r\n# Ende',
    },
    "settings": {
        **pair("set", GOOD),
        "confpy.toml": 'backend = "etcdv3"\nnodes = ["http://10.0.0.1:2379"]\nwatch = true\nlog-level = "warn"\n'
        'reload_cmd_timeout = "1m30s"\nprefix = "/p"\n',
    },
    "settings of confd": {**pair("old", GOOD), "confd.toml": 'backend = "env"\ninterval = 10\nnodes = []\n'},
}


def _bad(template: str, *lines: str, keys: str = '["/app"]', src: str = "bad.j2") -> dict[str, str]:
    return pair("bad", template, *lines, src=src, keys=keys)


PLANTED: dict[str, tuple[dict[str, str], str, str, str]] = {
    "a string that is not closed": (
        {"conf.d/bad.toml": '[template]\nsrc = "bad.j2§\ndest = "/etc/app/bad"\n'},
        "error", "a string is not closed", "three quotes",
    ),
    "a mode that is a number": (_bad(GOOD, "§mode = 0o644"), "error", "mode is not a string", 'mode = "0644"'),
    "a boolean that is text": (_bad(GOOD, '§mkdir = "yes"'), "error", "mkdir is not true or false", ""),
    "a word that is none of the choices": (_bad(GOOD, '§write = "renam"'), "error", "write: 'renam'", ""),
    "an unknown key": (_bad(GOOD, '# ä\n§chekc_cmd = "true"'), "error", "unknown key chekc_cmd", "check_cmd"),
    "a key outside of its table": (
        {**_bad(GOOD), "conf.d/bad.toml": '§mode = "0644"\n[template]\nsrc = "bad.j2"\ndest = "/etc/app/bad"\nkeys = ["/app"]\n'},
        "error", "mode stands outside [template]", "move it",
    ),
    "a table that is called otherwise": (
        {"conf.d/bad.toml": '§[templates]\nsrc = "bad.j2"\n'}, "error", "the file has no [template]", "[templates]",
    ),
    "no src": ({"conf.d/bad.toml": '§[template]\ndest = "/etc/app/bad"\n'}, "error", "src is missing", 'src = "…"'),
    "a dest that is a folder": (
        {"conf.d/bad.toml": '[template]\nsrc = "good.j2"\nkeys = ["/app"]\n§dest = "/etc/app/"\n'},
        "error", "dest is a folder", "name of a file",
    ),
    "two resources with one target": (
        {**resource("bad", src="good.j2", dest="/etc/app/good"), "conf.d/zzz.toml":
         '[template]\nsrc = "good.j2"\nkeys = ["/app"]\n§dest = "/etc/app/../app/good"\n', "conf.d/bad.toml": ""},
        "error", "the resource good has the same dest", "dest of its own",
    ),
    "a check of the old file": (
        _bad(GOOD, '§check_cmd = "haproxy -c -f /etc/app/bad"'), "error", "check_cmd tests the old file", "{{.src}}",
    ),
    "a check of the old file that is said to be staged": (
        _bad(GOOD, '§check_cmd = "nginx -t"', 'check_mode = "staged"', 'reload_cmd = "nginx -s reload"'),
        "error", "check_cmd tests the old file", "swap",
    ),
    "two reloads": (
        {**_bad(GOOD), "conf.d/bad.toml": '[template]\nsrc = "bad.j2"\ndest = "/etc/app/bad"\nkeys = ["/app"]\n'
         'reload_cmd = "true"\n§reload_signal = "HUP"\n'},
        "error", "reload", "",
    ),
    "no template": (
        {"conf.d/bad.toml": '[template]\n§src = "gone.j2"\ndest = "/etc/app/bad"\n'},
        "error", "there is no template gone.j2", "templates",
    ),
    "a tag that is not closed, in Jinja": (
        _bad('{{ getv("/app/port") }}\nöäü {% §for x in ls("/app") %}{{ x }}\n'), "error", "Unexpected end of template", "",
    ),
    "a filter that does not exist": (
        _bad('{{ getv("/app/port") | §upperr }}\n'), "error", "No filter named 'upperr'", "upper",
    ),
    "a name that nothing sets": (_bad('{{ getv("/app/x") }} größe {{ §prot }}\n'), "error", "'prot' is undefined", ""),
    "a function that does not exist": (
        _bad('{{ getv("/app/x") }}{{ §gettv("/app/y") }}\n'), "error", "'gettv' is undefined", "getv",
    ),
    "an action that is not closed, in Go": (
        _bad('ü\n{{range gets "/app/*"}}{{.Value}}\n§', src="bad.tmpl"), "error", "", "",
    ),
    "a function that does not exist, in Go": (
        _bad('port ö {{§gettv "/app/port"}}\n', src="bad.tmpl"), "error", "gettv", "",
    ),
    "a template that is not there": (
        _bad('{{ getv("/app/x") }}\n{% include "§parts/gone.j2" %}\n'), "error", "there is no template parts/gone.j2", "",
    ),
    "a key outside of its keys": (
        _bad('{{ getv("/app/x") }} ö {{ getv(§"/ap/port") }}\n'), "error", 'getv "/ap/port" lies outside', "keys",
    ),
    "a key outside of its keys, in Go": (
        _bad('{{getv "/app/x"}} ö {{range gets §"/services/*"}}{{.Value}}{{end}}\n', src="bad.tmpl"),
        "error", 'gets "/services/*" lies outside', "keys",
    ),
    "a computed key outside of its keys": (
        _bad('{{ getv("/app/x") }}{% for n in ls("/app") %}{{ getv(§"/sites/" ~ n) }}{% endfor %}\n'),
        "error", 'getv "/sites/…" lies outside', "keys",
    ),
    "a pattern without its slash": (
        _bad('{% for k, v in gets(§"app/*") %}{{ v }}{% endfor %}\n'), "error", 'gets "app/*" brings nothing', '"/app/*"',
    ),
    "a path that is a pattern": (
        _bad('{% for n in ls(§"/app/*") %}{{ n }}{% endfor %}\n'), "error", 'ls "/app/*" brings nothing', "path",
    ),
    "a key that no template reads": (
        _bad(GOOD, keys='["/app", "§/legacy"]'), "warning", "no template reads the key /legacy", "remove",
    ),
    "a loop counter in the name of a server": (
        _bad('{% for v in getvs("/app/b/*") %}\nserver s{{ §loop.index }} {{ v }} check\n{% endfor %}\n'),
        "warning", "a loop counter", "base(key)",
    ),
    "a loop counter in the name of a server, in Go": (
        _bad('{{range $i, $e := getvs "/app/b/*"}}\n  server s{{§$i}} {{$e}}\n{{end}}', src="bad.tmpl"),
        "warning", "a loop counter", "base(key)",
    ),
    "an unknown setting": (
        {"confpy.toml": "watch = true\n# ü\n§wacht = true\n"}, "error", "unknown setting wacht", "watch",
    ),
    "a setting of the wrong type": ({"confpy.toml": '§interval = "soon"\n'}, "error", "interval is not a duration", ""),
    "a relative mount": (
        {"confpy.toml": '[mounts]\n§"secrets" = { backend = "env" }\n'}, "error", "the mount 'secrets' is relative", '"/secrets"',
    ),
    "two stores at one mount": (
        {"confpy.toml": '[mounts]\n"/a" = { backend = "env" }\n§"/a/" = { backend = "file", file = "/a" }\n'},
        "error", "two stores are mounted at /a", "a mount of its own",
    ),
    "a mount whose store is unknown": (
        {"confpy.toml": '[mounts."/a"]\nnodes = ["b:1"]\n§backend = "consull"\n'}, "error", "unknown store 'consull'", "consul",
    ),
    "a setting of a mount that is unknown": (
        {"confpy.toml": '[mounts."/a"]\nbackend = "consul"\n§datacentre = "x"\n'}, "error", "unknown setting datacentre", "datacenter",
    ),
    "an unknown store": ({"confpy.toml": '§backend = "etcdd"\n'}, "error", "unknown store 'etcdd'", "etcd"),
}  # fmt: skip
"""What is wrong → the files, with a mark where it is found; the level; a part of the message, and of the hint."""

AROUND = pair("good", GOOD)
"""A healthy resource that stands beside each."""
