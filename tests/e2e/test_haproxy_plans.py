"""Plans for a real HAProxy: after each change it equals a second one that was started from the new files."""

from __future__ import annotations

import subprocess

import pytest

from confpy.haproxy.answers import is_accepted
from confpy.haproxy.compare import compare
from confpy.haproxy.steps import steps
from confpy.haproxy.values import Difference, Plan
from confpy.haproxy.verify import unequal
from tests.haproxy_oracle import Changes, Proxy
from tests.haproxy_shapes import HEAD, SHAPES
from tests.servers.haproxy import haproxies

PROGRAMS = haproxies()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_process_that_followed_a_change_equals_one_that_was_started_anew(program, shape, tmp_path):
    changes = Changes(PROGRAMS[program], tmp_path, shape, seed=1)
    try:
        for _ in range(2):
            changes.step()
    finally:
        changes.trial.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return certificates with their keys, by name."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name in ("a", "b", "c"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        files = [
            "-keyout",
            str(folder / "key"),
            "-out",
            str(folder / "certificate"),
            "-subj",
            f"/CN={name}.example.org",
        ]
        subprocess.run([*command, *files], check=True, capture_output=True)
        made[name] = (folder / "certificate").read_text() + (folder / "key").read_text()
    return made


@pytest.mark.parametrize("program", PROGRAMS)
def test_certificates_and_crt_lists_follow_their_files(program, certificates, tmp_path):
    config = f"{HEAD}frontend web\n    bind unix@@FOLDER@/web ssl crt-list {tmp_path}/list\n"
    folder = tmp_path

    def files(pem, lines):
        text = {f"{folder}/{name}.pem": content for name, content in pem.items()}
        return {path: content.encode() for path, content in {**text, f"{folder}/list": lines.format(folder)}.items()}

    first = files({"a": certificates["a"], "b": certificates["b"]}, "{0}/a.pem\n{0}/b.pem b.example.org\n")
    for path, content in first.items():
        (tmp_path / path).write_bytes(content)
    proxy = Proxy(PROGRAMS[program], tmp_path / "a", {"haproxy.cfg": config})
    now = {**proxy.files, **first}
    try:
        for pem, lines in (
            ({"a": certificates["c"], "b": certificates["b"]}, "{0}/a.pem\n{0}/b.pem b.example.org\n"),
            (
                {"a": certificates["c"], "b": certificates["b"], "c": certificates["a"]},
                "# three\n{0}/a.pem\n{0}/b.pem b.example.org\n{0}/c.pem [verify none] *.c.example.org !x.c.a\n",
            ),
            ({"a": certificates["c"], "c": certificates["b"]}, "{0}/a.pem\n{0}/c.pem [verify none] d.example.org\n"),
        ):
            new = {**proxy.files, **files(pem, lines)}
            difference = compare(now, new)
            assert isinstance(difference, Difference), difference
            plan = steps(difference, proxy.running(difference), proxy.process)
            assert isinstance(plan, Plan), plan
            assert plan.is_secret
            for one in plan.commands:
                answer = proxy.ask(one.text, one.payload)
                assert is_accepted(answer, one.accepts), (one.text, answer)
            assert unequal(difference, proxy.running(difference)) == ()
            shown = proxy.ask(f"show ssl crt-list {folder}/list").split("\n")[1:]
            wanted = [line for line in lines.format(folder).split("\n") if line and not line.startswith("#")]
            assert shown == wanted
            now = new
    finally:
        proxy.stop()
