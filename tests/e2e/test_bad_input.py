"""What goes wrong is said in one line that helps, ends with the right code, and harms nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, Ended, run_once
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.servers.web import Backend

OLD = "what was there before\n"


class Installation:
    """A confdir with two good resources, ``a`` and ``z``, a file of keys, and room for a bad one between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "keys.yaml").write_text('web: {name: x, sly: "{not json"}')
        for name in ("a", "z"):
            self.add(name, "{{ getv('/web/name') }}\n")
        self.bad = self.folder / "bad.out"
        self.bad.write_text(OLD)

    def add(self, name: str, template: str, *, dest: Path | None = None, **more: str) -> None:
        keys = {
            "src": f'"{name}"',
            "engine": '"jinja"',
            "dest": f'"{dest or self.folder / name}.out"',
            "keys": '["/web"]',
            **more,
        }
        lines = [f"{key} = {value}" for key, value in keys.items()]
        (self.folder / "conf.d" / f"{name}.toml").write_text("\n".join(["[template]", *lines, ""]))
        (self.folder / "templates" / name).write_text(template)

    def run(self, *flags: str, user: tuple[str, ...] = ()) -> Ended:
        given = ["-backend", "file", "-file", "keys.yaml"] if "-backend" not in flags else []
        return run_once("-confdir", str(self.folder), *given, *flags, folder=self.folder, user=user)

    def good_are_delivered(self) -> bool:
        return all((self.folder / f"{name}.out").read_text() == "x\n" for name in ("a", "z"))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@dataclass(frozen=True)
class Case:
    """One thing that is wrong, and what comes of it."""

    what: str
    make: Callable[[Installation], None]
    code: int
    says: str
    """What the line says."""
    fields: tuple[str, ...] = ()
    """Names of fields that the line has beside."""


def broken_toml(installation: Installation) -> None:
    installation.add("bad", "")
    (installation.folder / "conf.d" / "bad.toml").write_text('[template]\nsrc = "bad\n')


def missing_template(installation: Installation) -> None:
    installation.add("bad", "")
    (installation.folder / "templates" / "bad").unlink()


def target_is_a_directory(installation: Installation) -> None:
    installation.add("bad", "new\n", dest=installation.folder / "folder")
    (installation.folder / "folder.out").mkdir()


CASES = [
    Case("broken TOML", broken_toml, 2, "not valid TOML", ("file", "line")),
    Case(
        "a mode that is a number",
        lambda installation: installation.add("bad", "new", mode="644"),
        2,
        "mode",
        ("file", "hint"),
    ),
    Case(
        "a variable that is not set",
        lambda installation: installation.add("bad", "new", prefix="'/{{ env(\"NO_SUCH_VARIABLE\") }}'"),
        2,
        "the variable NO_SUCH_VARIABLE is not set",
        ("file", "line", "hint"),
    ),
    Case("a missing template", missing_template, 4, "there is no template", ("template", "hint")),
    Case(
        "an undefined function",
        lambda installation: installation.add("bad", "one\n{{ gett('/web/name') }}"),
        4,
        "'gett' is undefined",
        ("template", "line", "hint"),
    ),
    Case(
        "a missing key",
        lambda installation: installation.add("bad", "{{ getv('/web/none') }}"),
        4,
        "key does not exist",
        ("template", "line", "key"),
    ),
    Case(
        "a bad JSON value",
        lambda installation: installation.add("bad", "{{ json(getv('/web/sly')).port }}"),
        4,
        "not JSON",
        ("template", "line", "key"),
    ),
    Case(
        "a syntax error", lambda installation: installation.add("bad", "{% if %}"), 4, "Expected", ("template", "line")
    ),
    Case(
        "a check that says no",
        lambda installation: installation.add("bad", "new", check_cmd='"echo it has no {{.src}} >&2; exit 9"'),
        5,
        "exited with 9",
        ("command", "output"),
    ),
    Case(
        "a check that is not there",
        lambda installation: installation.add("bad", "new", check_cmd='"no-such-program {{.src}}"'),
        5,
        "exited with 127",
        ("command", "output"),
    ),
    Case(
        "a check that never ends",
        lambda installation: installation.add(
            "bad", "new", check_cmd='"sleep 60; true {{.src}}"', check_cmd_timeout='"300ms"'
        ),
        5,
        "did not end within its time",
        ("command",),
    ),
    Case(
        "output that is not what output_format says",
        lambda installation: installation.add("bad", "{", output_format='"json"'),
        5,
        "json",
    ),
    Case("a target that is a directory", target_is_a_directory, 6, "is a directory", ("target", "hint")),
    Case(
        "a folder that is not there",
        lambda installation: installation.add("bad", "new", dest=installation.folder / "nowhere" / "bad"),
        6,
        "No such file or directory",
        ("target", "folder", "hint"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_what_is_wrong_is_said_in_one_line_and_stops_only_itself(installation: Installation, case: Case) -> None:
    case.make(installation)
    ended = installation.run()
    assert ended.code == case.code, ended.events
    (line,) = [event for event in ended.events if event["level"] == "error"]
    assert line["resource"] == "bad"
    assert case.says.lower() in line["error"].lower()
    assert set(case.fields) <= set(line)
    assert "{not json" not in str(line), "a value was logged"
    assert installation.good_are_delivered()
    assert installation.bad.read_text() == OLD
    assert not list(installation.folder.glob(".*")), "a stage file was left"


def test_an_unknown_owner_is_a_warning_and_the_file_is_delivered(installation: Installation) -> None:
    installation.add("bad", "new\n", owner='"nobody-by-this-name"')
    ended = installation.run()
    assert ended.code == 0
    warning = ended.find("resource.warning", resource="bad")
    assert "not known on this machine" in warning["error"]
    assert warning["hint"]
    assert installation.bad.read_text() == "new\n"


def test_an_unknown_owner_is_an_error_where_the_owner_is_strict(installation: Installation) -> None:
    installation.add("bad", "new\n", owner='"nobody-by-this-name"', strict_owner="true")
    ended = installation.run()
    assert ended.code == 2
    assert installation.bad.read_text() == OLD
    assert installation.good_are_delivered()


@pytest.fixture
def sealed(installation: Installation) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A folder where confpy may not write, and the command that takes the powers of root from it, where we are root."""
    folder = installation.folder / "sealed"
    folder.mkdir()
    (folder / "bad.out").write_text(OLD)
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    yield folder, (find("setpriv"), "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_named(
    installation: Installation, sealed: tuple[Path, tuple[str, ...]]
) -> None:
    folder, user = sealed
    installation.add("bad", "new\n", dest=folder / "bad")
    (folder / "bad.out").chmod(0o444)  # else it would be written where it is
    ended = installation.run(user=user)
    assert ended.code == 6
    line = ended.find("resource.failed", resource="bad")
    assert "Permission denied" in line["error"]
    assert line["folder"] == str(folder)
    assert (folder / "bad.out").read_text() == OLD
    assert installation.good_are_delivered()


def test_a_reload_that_is_not_there_leaves_the_new_file_and_ends_with_7(installation: Installation) -> None:
    installation.add("bad", "new\n", reload_cmd='"no-such-program"')
    ended = installation.run()
    assert ended.code == 7
    line = ended.find("reload.failed", resource="bad")
    assert "127" in line["error"]
    assert "not found" in line["output"]
    assert installation.bad.read_text() == "new\n"
    assert installation.good_are_delivered()


def test_several_failures_end_with_the_smallest_code_and_a_line_each(installation: Installation) -> None:
    installation.add("bad", "new", check_cmd='"false {{.src}}"')
    installation.add("worse", "{{ getv('/web/none') }}")
    installation.add("late", "new\n", reload_cmd='"false"')
    ended = installation.run()
    assert ended.code == 4
    assert {event["resource"] for event in ended.events if event["event"] in {"resource.failed", "reload.failed"}} == {
        "bad",
        "worse",
        "late",
    }
    (together,) = [event for event in ended.events if event["event"] == "onetime.failed"]
    assert all(f"{name}: " in together["each"] for name in ("bad", "worse", "late"))
    assert installation.good_are_delivered()


# --- stores ----------------------------------------------------------------------------------------------------------


def store_fails(installation: Installation, node: str) -> str:
    """Run once against this node; return what the log says of it."""
    for name in ("a", "z"):
        (installation.folder / f"{name}.out").write_text(OLD)
    ended = installation.run("-backend", "etcdv3", "-node", node)
    assert ended.code == 3, ended.events
    assert all((installation.folder / f"{name}.out").read_text() == OLD for name in ("a", "z"))
    line = next(event for event in ended.events if event["level"] == "error")
    assert node in line["node"]
    return f"{line['error']}; {line['hint']}"


def test_a_store_that_is_down_ends_with_3_and_keeps_the_old_files(installation: Installation) -> None:
    assert "connection refused" in store_fails(installation, f"http://127.0.0.1:{free_port()}")


def test_a_node_whose_name_is_not_known_is_told_as_that(installation: Installation) -> None:
    assert "not known" in store_fails(installation, "http://no-such-host.invalid:2379")


def test_tls_to_a_port_without_it_asks_for_http(installation: Installation, etcd: Etcd) -> None:
    assert "http://" in store_fails(installation, f"https://127.0.0.1:{etcd.port}")


def test_a_server_that_is_no_etcd_is_told_as_that(installation: Installation) -> None:
    with Backend("web") as server:
        assert "not as etcd v3 does" in store_fails(installation, f"http://{server.address}")


def test_an_address_that_is_none_ends_with_2(installation: Installation) -> None:
    ended = installation.run("-backend", "etcdv3", "-node", "http://127.0.0.1:not-a-port")
    assert ended.code == 2
    assert "not-a-port" in ended.log


def test_a_file_of_keys_that_is_not_there_ends_with_3(installation: Installation) -> None:
    ended = installation.run("-backend", "file", "-file", "nowhere.yaml")
    assert ended.code == 3
    assert any(event.get("file") == "nowhere.yaml" for event in ended.events)


def test_a_broken_file_of_keys_names_file_and_line(installation: Installation) -> None:
    (installation.folder / "keys.yaml").write_text("web:\n  name: [\n")
    ended = installation.run()
    assert ended.code == 3
    line = next(event for event in ended.events if event["level"] == "error")
    assert (line["file"], line["line"]) == ("keys.yaml", 3)


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-backend", "etdc"], "unknown store"),
        (["-nodes", "x"], "unknown flag"),
        (["-interval", "soon"], "duration"),
        (["-interval"], "needs a value"),
        (["now"], "unexpected argument"),
        (["-confdir", "/nowhere"], "there is no /nowhere/conf.d"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_line_that_helps(installation: Installation, flags: list[str], says: str) -> None:
    ended = run_once("-backend", "file", "-file", "keys.yaml", *flags, folder=installation.folder)
    assert ended.code == 2
    (line,) = ended.log.splitlines()
    assert says in line
    assert "Traceback" not in line


def test_a_confdir_without_resources_ends_with_2_unless_allowed(installation: Installation) -> None:
    for file in (installation.folder / "conf.d").iterdir():
        file.unlink()
    assert installation.run().code == 2
    assert installation.run("-allow-empty").code == 0


# --- the daemon ------------------------------------------------------------------------------------------------------


def test_the_daemon_outlives_what_is_wrong_and_delivers_when_it_is_mended(installation: Installation) -> None:
    installation.add("bad", "{{ getv('/web/later') }}\n", reload_cmd='"test -e allowed"')
    flags = ["-confdir", ".", "-backend", "file", "-file", "keys.yaml"]
    with Confpy("-watch", *flags, folder=installation.folder) as confpy:
        confpy.says("resource.failed", resource="bad")
        assert installation.bad.read_text() == OLD
        keys = installation.folder / "keys.new"
        keys.write_text("web: {name: x, later: here}")
        keys.rename(installation.folder / "keys.yaml")
        confpy.says("reload.failed", resource="bad")
        assert installation.bad.read_text() == "here\n"
        (installation.folder / "allowed").touch()
        confpy.says("resource.changed", resource="bad", reloaded=True)
        assert confpy.stop() == 0
