#!/usr/bin/env python3
# ruff: noqa: B905, EXE001, PLW1510, RUF005, T201
"""Run golden vectors against a confd-compatible command (standard library only).

    python3 check.py --command confd vectors.jsonl
    python3 check.py --command "/path/venv/bin/python -m confpy" --reference head vectors.jsonl

For every vector a throw-away confdir, a data file and a destination are made and

    COMMAND -onetime -confdir DIR -config-file NONE -log-level error -backend file -file DATA.yaml

is run (env-backend vectors: -backend env).  The process environment is exactly
the vector's "env", nothing else.  Exit status: 0 when everything matches.
"""

import argparse
import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

TEMPLATE = "t.tmpl"


def yaml_quote(s):
    out = ['"']
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    for ch in s:
        o = ord(ch)
        if ch in named:
            out.append(named[ch])
        elif o < 0x20 or o == 0x7F:
            out.append(f"\\x{o:02X}")
        elif 0x80 <= o <= 0xA0 or o in (0x2028, 0x2029, 0xFEFF):
            out.append(f"\\u{o:04X}")
        elif o > 0xFFFF:
            out.append(f"\\U{o:08X}")
        else:
            out.append(ch)
    return "".join(out) + '"'


def data_yaml(v):
    lines = [f"{yaml_quote(k)}: {yaml_quote(x)}\n" for k, x in v.get("keys", {}).items()]
    lines += [f"{yaml_quote(k)}: !!binary {yaml_quote(x)}\n" for k, x in v.get("keys_b64", {}).items()]
    return "".join(lines).encode("utf-8")


def get_bytes(v, name):
    """Field as bytes, from NAME or NAME_b64; None when absent."""
    if name in v:
        return v[name].encode("utf-8")
    if name + "_b64" in v:
        return base64.b64decode(v[name + "_b64"])
    return None


def expected(v, reference):
    """(bytes, None) or (None, error text) for the wanted reference."""
    if reference == "head" and "differs_by" in v:
        return get_bytes(v, "expect_head"), v.get("expect_error_head")
    return get_bytes(v, "expect"), v.get("expect_error")


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def run(command, v, work):
    conf, dest = os.path.join(work, "confd"), os.path.join(work, "out")
    write(os.path.join(conf, "templates", TEMPLATE), get_bytes(v, "template"))
    toml = '[template]\nsrc = "{}"\ndest = {}\nkeys = {}\n'.format(
        TEMPLATE, json.dumps(dest), json.dumps(v["resource_keys"])
    )
    if v.get("prefix"):
        toml += "prefix = {}\n".format(json.dumps(v["prefix"]))
    write(os.path.join(conf, "conf.d", "t.toml"), toml.encode("utf-8"))
    cmd = command + [
        "-onetime",
        "-confdir",
        conf,
        "-config-file",
        os.path.join(work, "none.toml"),
        "-log-level",
        "error",
    ]
    if v.get("global_prefix"):
        cmd += ["-prefix", v["global_prefix"]]
    if v.get("backend") == "env":
        cmd += ["-backend", "env"]
    else:
        cmd += ["-backend", "file"]
        if "files" in v:
            for name, text in v["files"].items():
                write(os.path.join(work, "data", name), text.encode("utf-8"))
            for a in v["file_args"]:
                cmd += ["-file", os.path.join(work, "data", a)]
            if v.get("filter"):
                cmd += ["-filter", v["filter"]]
        else:
            raw = get_bytes(v, "yaml")
            path = os.path.join(work, "data.yaml")
            write(path, data_yaml(v) if raw is None else raw)
            cmd += ["-file", path]
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, env=v.get("env", {}), cwd=work, timeout=120)
    out = None
    if os.path.exists(dest):
        with open(dest, "rb") as f:
            out = f.read()
    return p.returncode, out, p.stderr


def judge(command, v, reference, messages):
    """None when the vector passes, else a line that says what is wrong."""
    work = tempfile.mkdtemp(prefix="golden-")
    try:
        rc, out, err = run(command, v, work)
    except subprocess.TimeoutExpired:
        return "timed out"
    finally:
        shutil.rmtree(work, ignore_errors=True)
    want, want_error = expected(v, reference)
    tail = err.decode("utf-8", "replace").strip().splitlines()[:1]
    if want is not None:
        if rc != 0 or out is None:
            return f"should render, exit {rc}, {tail}"
        return None if out == want else f"want {want!r}\n      got  {out!r}"
    if rc == 0 or out is not None:
        return f"should fail with {want_error!r}, got {out!r}"
    if messages and want_error not in err.decode("utf-8", "replace"):
        return f"fails as it should, other message: want {want_error!r}, {tail}"
    return None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("vectors", nargs="+")
    ap.add_argument("--command", required=True)
    ap.add_argument("--reference", choices=("v0.16.0", "head"), default="v0.16.0")
    ap.add_argument("--messages", action="store_true", help="also compare the error text")
    ap.add_argument("--area", action="append", help="only these areas")
    ap.add_argument("--id", action="append", help="only these ids")
    ap.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    o = ap.parse_args()
    command = shlex.split(o.command)
    command[0] = shutil.which(command[0]) or command[0]
    vectors = []
    for path in o.vectors:
        with open(path, encoding="ascii") as f:
            vectors += [json.loads(line) for line in f]
    vectors = [v for v in vectors if (not o.area or v["area"] in o.area) and (not o.id or v["id"] in o.id)]
    with ThreadPoolExecutor(o.jobs) as ex:
        results = list(ex.map(lambda v: judge(command, v, o.reference, o.messages), vectors))
    areas, bad = {}, 0
    for v, r in zip(vectors, results):
        a = areas.setdefault(v["area"], [0, 0])
        a[0] += 1
        if r is not None:
            a[1] += 1
            bad += 1
            print("FAIL {}: {}".format(v["id"], r))
    for name, (n, f) in areas.items():
        print(f"{name:18} {n - f:4} of {n:4}")
    print(f"{'total':18} {len(vectors) - bad:4} of {len(vectors):4}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
