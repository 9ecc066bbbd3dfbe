"""What installations of confd rely on, beyond their templates: names of files, variables, places."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, run_once
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.servers.program import find
from tests.waiting import wait_until


def confdir_of(folder: Path, resources: dict[str, str], templates: dict[str, str]) -> Path:
    """Make a confdir: path below ``conf.d`` → what stands below ``[template]``, path below ``templates`` → text."""
    for below, files in (("conf.d", resources), ("templates", templates)):
        (folder / below).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"[template]\n{text}" if below == "conf.d" else text)
    return folder


def test_a_hidden_resource_is_delivered_and_what_its_name_leaves_out_is_told_once_at_debug(tmp_path):
    resource = f'src = ".env.tmpl"\ndest = "{tmp_path}/env"\nkeys = ["/a"]\n'
    confdir = confdir_of(tmp_path / "confd", {".env.toml": resource, "._env.toml": ""}, {".env.tmpl": '{{getv "/a"}}'})
    flags = ("-backend", "env", "-confdir", str(confdir), "-log-level", "debug")
    ended = run_once(*flags, folder=tmp_path, more={"A": "1"})
    assert (ended.code, (tmp_path / "env").read_text()) == (0, "1")
    assert ended.find("file.skipped")["file"] == str(confdir / "conf.d" / "._env.toml")
    assert ended.find("resource.changed")["resource"] == ".env"


def test_a_variable_that_the_fork_reads_is_left_to_the_templates_of_who_calls_confd_and_told_of(tmp_path):
    resource = f'src = "a.tmpl"\ndest = "{tmp_path}/a"\nkeys = ["/a"]\n'
    template = '{{getv "/a"}} {{getenv "CONFD_PREFIX"}}'
    flags = (
        "-backend",
        "env",
        "-confdir",
        str(confdir_of(tmp_path / "confd", {"a.toml": resource}, {"a.tmpl": template})),
    )
    ended = run_once(*flags, folder=tmp_path, more={"A": "1", "CONFD_PREFIX": "/prod", "CONFD_NOOP": "true"})
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "1 /prod")
    line = ended.find("settings.ignored", level="info")
    assert line["variables"] == "CONFD_NOOP, CONFD_PREFIX"
    ended = run_once("env", *flags[2:], folder=tmp_path, more={"PROD_A": "2", "CONFD_PREFIX": "/prod"})
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "2 /prod")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.usefixtures("unmeasured")
def test_a_user_without_folders_of_the_system_has_state_and_cache_at_home_and_no_warning():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        run_at_home(Path(folder))


def run_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    resource = f'src = "a.tmpl"\ndest = "{home}/a"\nkeys = ["/a"]\nreload_cmd = "true"\n'
    flags = ("-backend", "env", "-confdir", str(confdir_of(tmp_path / "confd", {"a.toml": resource}, {"a.tmpl": "x"})))
    os.chown(home, 65534, 65534)
    user = (find("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups")
    own = {"HOME": str(home), "CONFPY_STATE_DIR": "", "CONFPY_CACHE_DIR": ""}
    ended = run_once(*flags, folder=tmp_path, more=own, user=user)
    assert ended.code == 0
    assert [one for one in ended.events if one["level"] != "info"] == []
    assert (home / ".local" / "state" / "confpy").is_dir()
    assert list((home / ".cache" / "confpy").iterdir())


TEXT = 'prefix = "/services/haproxy"\nkeys = ["/app/awesome"]\n'
PUBLIC = '{{range getvs "/app/awesome*"}}{{.}};{{end}}'
KEYS = {"/app/awesome1": "1", "/app/awesome2": "2", "/app/other": "no", "/app/awe": "no"}


def test_a_template_that_asks_beyond_its_keys_gets_them_from_files_and_variables_as_in_confd(tmp_path):
    confdir = confdir_of(
        tmp_path / "confd", {"a.toml": f'src = "a.tmpl"\ndest = "{tmp_path}/a"\n{TEXT}'}, {"a.tmpl": PUBLIC}
    )
    keys = {f"/services/haproxy{key}": value for key, value in KEYS.items()}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    ended = run_once("-backend", "file", "-file", "keys.json", "-confdir", str(confdir), folder=tmp_path)
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "1;2;")
    assert ended.find("keys.text_prefixes", level="info")["asks"] == "/app/awesome*"
    (tmp_path / "a").unlink()
    variables = {key[1:].replace("/", "_").upper(): value for key, value in keys.items()}
    ended = run_once("-backend", "env", "-confdir", str(confdir), folder=tmp_path, more=variables)
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "1;2;")


def test_a_template_that_asks_beyond_its_keys_follows_consul(consul: Consul, tmp_path):
    dest = tmp_path / "a"
    confdir = confdir_of(tmp_path / "confd", {"a.toml": f'src = "a.tmpl"\ndest = "{dest}"\n{TEXT}'}, {"a.tmpl": PUBLIC})
    for key, value in {**KEYS, "/app/awesome/x": "below"}.items():
        consul.put(f"services/haproxy{key}", value)
    flags = ("-watch", "-backend", "consul", "-node", consul.endpoint, "-confdir", str(confdir))
    with Confpy(*flags, folder=tmp_path) as confpy:
        wait_until(lambda: dest.exists() and dest.read_text() == "1;2;", seconds=30, what="it is delivered")
        consul.put("services/haproxy/app/other", "no again")
        consul.put("services/haproxy/app/awesome3", "3")
        wait_until(lambda: dest.read_text() == "1;2;3;", seconds=30, what="it follows")
        # An edit of the template decides anew.
        (confdir / "templates" / "a.tmpl").write_text('{{range getvs "/app/awesome/*"}}{{.}}{{end}}')
        wait_until(lambda: dest.read_text() == "below", seconds=30, what="it is read by segments again")
        assert len([one for one in confpy.events if one["event"] == "keys.text_prefixes"]) == 1


def test_etcd_is_read_by_whole_segments_as_in_confd_unless_text_is_asked_for_by_hand(etcd: Etcd, tmp_path):
    etcd.put_all({f"/services/haproxy{key}": value for key, value in KEYS.items()})
    resources = {
        "a.toml": f'src = "a.tmpl"\ndest = "{tmp_path}/a"\n{TEXT}',
        "b.toml": f'src = "a.tmpl"\ndest = "{tmp_path}/b"\n{TEXT}keys_match = "text"\n',
    }
    confdir = confdir_of(tmp_path / "confd", resources, {"a.tmpl": PUBLIC})
    ended = run_once("-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(confdir), folder=tmp_path)
    assert (ended.code, (tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == (0, "", "1;2;")
