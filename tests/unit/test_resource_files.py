from __future__ import annotations

import errno
import grp
import os
import pwd
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies

from confpy.clock import LONGEST
from confpy.config.load import NO_RELOAD, load_resources, reject_unaddressed
from confpy.config.resource import OPTIONS
from confpy.config.settings import Settings
from confpy.config.toml import read_text
from confpy.reload.actions import CommandReload, HttpReload, SignalReload, SocketReload, VerifyCommand, VerifyProgram
from confpy.reload.runtime_target import RuntimeTarget
from confpy.stores.env import EnvStore

MINIMAL = 'src = "a.tmpl"\ndest = "/srv/a"\n'
MANUAL = Path(__file__).parents[2] / "docs" / "resources.md"


@pytest.fixture
def confd(tmp_path):
    """An empty conf.d."""
    folder = tmp_path / "conf.d"
    folder.mkdir()
    return folder


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def load(confd, settings=None, prefixes_of=lambda key: (key,)):
    return load_resources(str(confd.parent), settings or Settings(), prefixes_of)


def load_one(confd, lines, settings=None):
    """Load one resource of ``MINIMAL`` and these lines; it must load."""
    write(confd, "a.toml", f"[template]\n{MINIMAL}{lines}")
    loaded = load(confd, settings)
    assert [str(error) for error in loaded.all_errors] == []
    (resource,) = loaded.resources
    return resource, loaded.warnings


def names(loaded):
    return [resource.name for resource in loaded.resources]


# --- which files -----------------------------------------------------------------------------------------------------


def test_a_confdir_without_conf_d_is_told_apart_from_an_empty_conf_d(tmp_path, confd):
    assert load_resources(str(tmp_path / "gone"), Settings(), lambda key: (key,)).found is False
    loaded = load(confd)
    assert (loaded.found, loaded.resources, loaded.all_errors) == (True, (), ())


def test_files_come_in_the_order_of_their_names_folders_in_place_and_hidden_ones_too(confd):
    for number, name in enumerate(
        [
            ".env.toml",
            "b.toml",
            "a/z.toml",
            "a/b/c.toml",
            ".sites/.x.toml",
            "Z.toml",
            "é.toml",
            "xtoml",
            "a.toml",
            "a-b.toml",
        ]
    ):
        write(confd, name, f'[template]\nsrc = "s"\ndest = "/srv/{number}"\n')
    loaded = load(confd)
    assert names(loaded) == [".env", ".sites/.x", "Z", "a/b/c", "a/z", "a-b", "a", "b", "xtoml", "é"]
    assert (loaded.all_errors, loaded.warnings, loaded.notes) == ((), (), ())


def test_what_is_left_out_for_its_name_is_said_at_debug(confd):
    left_out = [
        "..data/x.toml",
        "..x.toml",
        ".#b.toml",
        "._a.toml",
        ".a.toml.confpy-0a1b2c3d.toml",
        ".git/x.toml",
        "README",
    ]
    for name in left_out:
        write(confd, name, "broken")
    os.symlink("user@host.12", confd / ".#c.toml")
    loaded = load(confd)
    assert (names(loaded), loaded.all_errors, loaded.warnings) == ([], (), ())
    assert {(note.level, note.event, note.fields["file"]) for note in loaded.notes} == {
        ("debug", "file.skipped", str(confd / name.partition("/")[0])) for name in [*left_out, ".#c.toml"]
    }


def test_the_files_of_a_config_map_are_read_through_their_links_once(confd):
    write(confd, "..2026/a.toml", f"[template]\n{MINIMAL}")
    os.symlink("..2026", confd / "..data")
    os.symlink("..data/a.toml", confd / "a.toml")
    loaded = load(confd)
    assert (names(loaded), loaded.warnings, loaded.all_errors) == (["a"], (), ())


def test_linked_files_and_folders_are_followed_and_loops_end(confd, tmp_path):
    write(tmp_path, "elsewhere/sub/b.toml", f"[template]\n{MINIMAL}")
    os.symlink(tmp_path / "elsewhere", confd / "linked")
    os.symlink(confd, tmp_path / "elsewhere" / "sub" / "loop")
    os.symlink("linked/sub/b.toml", confd / "z.toml")
    loaded = load(confd)
    assert (names(loaded), loaded.warnings, loaded.all_errors) == (["linked/sub/b"], (), ())
    os.symlink("self", confd / "self")
    assert [warning.message for warning in load(confd).warnings] == ["the link leads nowhere, left out"]


def test_conf_d_may_be_a_file(tmp_path):
    write(tmp_path, "conf.d", f"[template]\n{MINIMAL}")
    assert names(load_resources(str(tmp_path) + "/", Settings(), lambda key: (key,))) == ["conf.d"]


def test_a_dangling_link_is_an_error_where_it_should_be_a_resource_else_a_warning(confd):
    write(confd, "good.toml", f"[template]\n{MINIMAL}")
    os.symlink("nowhere", confd / "bad.toml")
    os.symlink("nowhere", confd / "other")
    loaded = load(confd)
    assert names(loaded) == ["good"]
    assert [(error.message, error.where) for error in loaded.all_errors] == [
        ("the link leads nowhere", {"file": str(confd / "bad.toml")})
    ]
    assert [(warning.message, warning.where) for warning in loaded.warnings] == [
        ("the link leads nowhere, left out", {"file": str(confd / "other")})
    ]


def test_a_fifo_stops_only_itself(confd):
    write(confd, "good.toml", f"[template]\n{MINIMAL}")
    os.mkfifo(confd / "bad.toml")
    loaded = load(confd)
    assert names(loaded) == ["good"]
    assert [error.message for error in loaded.all_errors] == ["the file is not a regular file"]


def test_an_unreadable_folder_stops_only_itself(confd, monkeypatch):
    write(confd, "good.toml", f"[template]\n{MINIMAL}")
    (confd / "closed").mkdir()

    def scandir(path, real=os.scandir):
        # Permissions alone would not stop root, who may run this.
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    loaded = load(confd)
    assert names(loaded) == ["good"]
    assert [error.message for error in loaded.all_errors] == ["the path cannot be read: Permission denied"]


def test_a_file_that_is_removed_while_its_folder_is_read_is_none(confd, monkeypatch):
    write(confd, "bad.toml", f"[template]\n{MINIMAL}")
    write(confd, "good.toml", f"[template]\n{MINIMAL}")
    monkeypatch.setattr("confpy.config.load.read_text", lambda path, real=read_text: real(remove(path, "bad.toml")))
    loaded = load(confd)
    assert names(loaded) == ["good"]
    assert loaded.all_errors == ()


def remove(path: str, name: str) -> str:
    if path.endswith(name):
        os.unlink(path)
    return path


def test_a_start_looks_at_links_and_reads_each_other_file_with_one_look(confd, monkeypatch):
    for number in range(50):
        write(confd, f"{number}.toml", f'[template]\nsrc = "a"\ndest = "/out/{number}"\n')
    looks: list[str] = []

    def counted(name, real):
        return lambda path, *more, **named: looks.append(name) or real(path, *more, **named)

    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    assert len(load(confd).resources) == 50
    assert looks.count("open") == 50
    assert len(looks) < 50 + 40


# --- what is in them -------------------------------------------------------------------------------------------------


def test_src_and_dest_are_enough_and_the_rest_has_the_defaults_of_the_settings(confd):
    settings = Settings(check_cmd_timeout=5.0, reload_cmd_timeout=6.0, on_drift="warn", strict_owner=True)
    resource, warnings = load_one(confd, "", settings)
    assert (resource.name, resource.file) == ("a", str(confd / "a.toml"))
    assert (resource.src, resource.dest, resource.strip, resource.prefixes) == ("a.tmpl", "/srv/a", "/", ())
    assert (resource.mode, resource.uid, resource.gid) == (None, None, None)
    assert (resource.check_cmd, resource.reload_cmd, resource.output_format) == (None, None, None)
    assert (resource.check_cmd_timeout, resource.reload_cmd_timeout) == (5, 6)
    assert (resource.on_drift, resource.strict_owner) == ("warn", True)
    assert warnings == ()


def test_every_key_is_read_in_any_case(confd):
    write(
        confd,
        "a.toml",
        """
        [Template]
        SRC = "/sub/a.tmpl"
        Dest = "/srv/a"
        Keys = ["/x", "/y/"]
        PREFIX = "/app"
        Mode = "0640"
        UID = 12
        gid = 34
        Check_Cmd = "check {{.src}}"
        Reload_Cmd = ["reload", "{{dest}}"]
        check_cmd_timeout = "500ms"
        reload_cmd_timeout = 90
        output_format = "JSON"
        on_drift = "warn"
        write_once = true
        on_missing = "error"
        strict_owner = true
        owner = ""
        group = ""
        """,
    )
    loaded = load(confd)
    assert (loaded.all_errors, loaded.warnings) == ((), ())
    (resource,) = loaded.resources
    assert (resource.src, resource.dest, resource.strip) == ("sub/a.tmpl", "/srv/a", "/app")
    assert resource.prefixes == ("/app/x", "/app/y")
    assert (resource.mode, resource.uid, resource.gid) == (0o640, 12, 34)
    assert (resource.check_cmd, resource.reload_cmd) == ("check {{.src}}", CommandReload(("reload", "{{dest}}")))
    assert (resource.check_cmd_timeout, resource.reload_cmd_timeout) == (0.5, 90)
    assert (resource.output_format, resource.on_drift, resource.strict_owner) == ("json", "warn", True)
    assert resource.write_once
    assert resource.on_missing == "error"


@pytest.mark.parametrize(
    ("overall", "own", "keys", "expected"),
    [
        ("", "", ["/nginx"], ("/", ("/nginx",))),
        ("", "/app", ["/nginx"], ("/app", ("/app/nginx",))),
        ("/prod", "/app", ["/nginx"], ("/prod", ("/prod/nginx",))),
        ("prod/", "", ["nginx/"], ("/prod", ("prod/nginx",))),
        ("/prod", "", ["/"], ("/prod", ("/prod",))),
        ("", "", ["nginx"], ("/", ("nginx",))),
        ("", "", ["/a", "/a/", "//a"], ("/", ("/a",))),
        ("", "", [], ("/", ())),
    ],
)
def test_the_global_prefix_takes_the_place_of_the_resources_own(confd, overall, own, keys, expected):
    resource, _ = load_one(confd, f'prefix = "{own}"\nkeys = {keys}\n', Settings(prefix=overall))
    assert (resource.strip, resource.prefixes) == expected


def test_the_store_says_what_to_read_for_each_key(confd):
    write(confd, "a.toml", f'[template]\n{MINIMAL}keys = ["a", "/b"]\n')
    (resource,) = load(confd, prefixes_of=lambda key: (key, "/" + key.lstrip("/"))).resources
    assert resource.prefixes == ("a", "/a", "/b")


def test_a_relative_dest_is_below_the_working_directory_and_told_of_at_info(confd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(confd, "a.toml", '[template]\nsrc = "a"\ndest = "out/a"\n')
    loaded = load(confd)
    assert loaded.resources[0].dest == f"{tmp_path}/out/a"
    (note,) = loaded.notes
    assert (note.level, note.event, note.fields["target"]) == ("info", "dest.relative", f"{tmp_path}/out/a")
    assert load(confd, Settings(root="/image")).notes[0].fields["target"] == f"/image{tmp_path}/out/a"


def test_an_absolute_dest_needs_no_note(confd):
    write(confd, "a.toml", f"[template]\n{MINIMAL}")
    assert load(confd).notes == ()


@pytest.mark.parametrize(
    ("written", "mode"),
    [("0644", 0o644), ("644", 0o644), ("0o644", 0o644), ("4755", 0o4755), ("0", 0), ("000", 0), ("", None)],
)
def test_a_mode_is_octal_digits_in_a_string(confd, written, mode):
    assert load_one(confd, f'mode = "{written}"\n')[0].mode == mode


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("0644", "0644"),
        ("644", "0644"),
        ("0o640", "0640"),
        ("755", "0755"),
        ("420", "0644"),
        ("493", "0755"),
        ("384", "0600"),
        ('"rw-r--r--"', "0644"),
        ('"0x1a4"', "0644"),
        ('"99"', "0644"),
        ('"44755"', "0644"),
        ("true", "0644"),
    ],
)
def test_a_mode_written_otherwise_is_an_error_that_shows_the_right_spelling(confd, written, right):
    write(confd, "a.toml", f"[template]\n{MINIMAL}mode = {written}\n")
    (error,) = load(confd).all_errors
    assert error.hint == f'write mode = "{right}"'
    assert error.where["resource"] == "a"


@pytest.mark.parametrize(("key", "number"), [("owner", "uid"), ("group", "gid")])
def test_names_of_users_and_groups_are_looked_up_and_numbers_come_first(confd, key, number):
    name, expected = {
        "owner": (pwd.getpwuid(os.getuid()).pw_name, os.getuid()),
        "group": (grp.getgrgid(os.getgid()).gr_name, os.getgid()),
    }[key]
    for lines, found in [
        (f'{key} = "{name}"', expected),
        (f'{key} = "{name}"\n{number} = -1', expected),
        (f'{key} = "{name}"\n{number} = 77', 77),
        (f'{key} = "nobody here"\n{number} = 77', 77),
        (f'{key} = "77"', 77),
        (f"{number} = -1", None),
    ]:
        resource, warnings = load_one(confd, lines)
        assert getattr(resource, number) == found
        assert warnings == ()


@pytest.mark.parametrize("key", ["owner", "group"])
def test_an_unknown_owner_is_a_warning_and_an_error_where_owners_are_strict(confd, key):
    uid = "uid = 12\n" if key == "group" else ""
    resource, (warning,) = load_one(confd, f'{key} = "nobody-here"\n{uid}')
    assert (resource.uid, resource.gid) == (12 if uid else None, None)
    assert warning.message == f"{key} is not known on this machine: 'nobody-here'"
    assert warning.where == {"resource": "a", "file": str(confd / "a.toml"), "key": key}
    (error,) = load(confd, Settings(strict_owner=True)).all_errors
    assert error.message == warning.message
    write(confd, "a.toml", f'[template]\n{MINIMAL}{key} = "nobody-here"\nstrict_owner = true\n')
    (error,) = load(confd).all_errors
    assert error.message == warning.message


def test_a_group_that_is_none_of_the_machines_is_one_of_resources(confd):
    resource, warnings = load_one(confd, 'group = "no-such-group"\n')
    assert (resource.group, resource.gid, warnings) == ("no-such-group", None, ())
    for beside in ('owner = "root"', "strict_owner = true"):
        write(confd, "a.toml", f'[template]\n{MINIMAL}group = "no-such-group"\n{beside}\n')
        loaded = load(confd)
        assert "group is not known" in str([*loaded.all_errors, *loaded.warnings][0])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", None),
        ('reload_cmd = ""', None),
        ('reload_cmd = ["nginx", "-s", "reload"]', CommandReload(("nginx", "-s", "reload"))),
        ('reload_signal = "HUP"\nreload_process = "nginx"', SignalReload("HUP", process="nginx")),
        ('Reload-Signal = "sigusr2"\nreload_pidfile = "/run/p"', SignalReload("USR2", "/run/p")),
        (
            'reload_signal = "HUP"\nreload_pidfile = "/run/p"\nreload_process = "p"',
            SignalReload("HUP", "/run/p", "p"),
        ),
        ('reload_http = "post https://[::1]:80/a?b=c@d"', HttpReload("POST", "https://[::1]:80/a?b=c@d")),
        ('reload_http = "PUT http://unix:/run/a.sock:/"', HttpReload("PUT", "http://unix:/run/a.sock:/")),
        ('reload_socket = "unix:/run/m.sock reload now "', SocketReload("/run/m.sock", "reload now")),
        (
            'reload_socket = ["unix:/run/m.sock", "clear map /m", " add map /m a b"]',
            SocketReload("/run/m.sock", "clear map /m", ("add map /m a b",)),
        ),
        (
            'reload_socket = ["unix:/run/m.sock clear map /m", "add map /m a b"]',
            SocketReload("/run/m.sock", "clear map /m", ("add map /m a b",)),
        ),
        ('reload_socket = ["unix:/run/m.sock reload"]', SocketReload("/run/m.sock", "reload")),
        (
            'reload_socket = "unix:/run/m.sock restart"\nreload_socket_expect = "^(OK|done)$"',
            SocketReload("/run/m.sock", "restart", (), "^(OK|done)$"),
        ),
    ],
)
def test_a_reload_is_one_of_four(confd, lines, expected):
    resource, warnings = load_one(confd, f"{lines}\n")
    assert (resource.reload_cmd, warnings) == (expected, ())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('reload_cmd = "a"\nreload_http = "POST http://a/"', "there are both reload_cmd and reload_http"),
        ('reload_process = "nginx"', "there is a reload_process without reload_signal"),
        ('reload_cmd = "a"\nreload_pidfile = "/run/p"', "there is a reload_pidfile without reload_signal"),
        ('reload_signal = "OF"', "reload_signal is not the name of a signal, such as \"HUP\": 'OF'"),
        ("reload_signal = 1", 'reload_signal is not the name of a signal, such as "HUP": 1'),
        ('reload_socket = "unix:/run/m.sock"', None),
        ('reload_socket = "/run/m.sock reload"', None),
        ("reload_socket = []", None),
        ('reload_socket = ["unix:/run/m.sock"]', None),
        ('reload_socket = ["unix:/run/m.sock", ""]', None),
        ('reload_socket = ["reload", "unix:/run/m.sock"]', None),
        ('reload_socket = "unix:/run/m.sock reload"\nreload_socket_expect = "("', None),
        ('reload_socket_expect = "OK"', "there is a reload_socket_expect without reload_socket"),
        (r'reload_socket = "unix:/run/m.sock a\nb"', None),
        *(
            (f'reload_http = "{written}"', None)
            for written in (
                *("", "http://a/", "POST /a", "POST http://", "POST http://a:x/", "POST http://a:99999/"),
                *("POST http://me:canary@a/", "POST http://a/ b", "POST ftp://a/", "POST http://[a/", "POST http://ä/"),
                *("POST http://unix:/run/a.sock", "POST https://unix:/run/a.sock:/"),
            )
        ),
    ],
)
def test_a_reload_that_is_none_is_an_error_that_shows_no_login(confd, lines, message):
    write(confd, "a.toml", f"[template]\n{MINIMAL}{lines}\n")
    (error,) = load(confd).all_errors
    assert error.message == message or (message is None and " is not a " in error.message)
    assert "canary" not in str(error)


ADMIN = "unix:/run/haproxy/admin.sock"


@pytest.mark.parametrize(
    ("written", "sockets"),
    [
        (f'"{ADMIN}"', (ADMIN,)),
        (f'["{ADMIN}", "127.0.0.1:9999", "[::1]:9999"]', (ADMIN, "127.0.0.1:9999", "[::1]:9999")),
    ],
)
def test_a_runtime_target_is_one_socket_or_several(confd, written, sockets):
    resource, warnings = load_one(confd, f'reload_cmd = "true"\nreload_haproxy = {written}\n')
    assert (resource.reload_haproxy, warnings) == (RuntimeTarget(sockets), ())
    assert resource.reload_spec.runtime == RuntimeTarget(sockets)


@pytest.mark.parametrize(
    "written",
    [
        *('""', "[]", '"/run/h.sock"', '"unix:h.sock"', '"unix:/run/h.sock reload"', r'"unix:/run/h\n.sock"', "true"),
        *('"127.0.0.1"', '"127.0.0.1:0"', '"127.0.0.1:99999"', '"127.0.0.1:x"', '"::1:9"', '"[127.0.0.1]:9"'),
        *('"localhost:9999"', '"10.0.0.1:9999"', '"0.0.0.0:9999"', f'["{ADMIN}", "{ADMIN}"]', f'["{ADMIN}", ""]'),
    ],
)
def test_a_socket_that_is_none_or_open_to_a_network_is_an_error(confd, written):
    write(confd, "a.toml", f'[template]\n{MINIMAL}reload_cmd = "true"\nreload_haproxy = {written}\n')
    (error,) = load(confd).all_errors
    assert error.message.startswith('reload_haproxy is not a socket such as "unix:/run/haproxy/admin.sock" or')


def test_a_runtime_target_without_a_reload_beside_it_is_an_error(confd):
    write(confd, "a.toml", f'[template]\n{MINIMAL}reload_haproxy = "{ADMIN}"\n')
    (error,) = load(confd).all_errors
    assert (error.exit_code, error.message) == (2, "there is a reload_haproxy without a reload")
    assert "reload_cmd" in error.hint


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", None),
        ('verify_cmd = "true"', VerifyCommand("true")),
        ('verify = "nginx"', VerifyProgram("nginx")),
        ('verify = "nginx /run/nginx.pid"', VerifyProgram("nginx", pidfile="/run/nginx.pid")),
        ('verify = "haproxy unix:/run/m.sock"', VerifyProgram("haproxy", "/run/m.sock")),
        # What says whom to reload says whom to look at, too.
        ('verify = "haproxy"\nreload_socket = "unix:/run/m.sock reload"', VerifyProgram("haproxy", "/run/m.sock")),
        (
            'verify = "apache"\nreload_signal = "USR1"\nreload_pidfile = "/run/p"',
            VerifyProgram("apache", pidfile="/run/p"),
        ),
        (
            'verify = "nginx /run/n"\nreload_signal = "HUP"\nreload_pidfile = "/run/p"',
            VerifyProgram("nginx", pidfile="/run/n"),
        ),
    ],
)
def test_a_reload_is_verified_by_a_command_or_by_what_confpy_knows_of_a_program(confd, lines, expected):
    resource, warnings = load_one(confd, f"{lines}\n")
    assert (resource.verify_cmd, warnings) == (expected, ())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('verify = "nginx"\nverify_cmd = "true"', "there are both verify and verify_cmd"),
        *(
            (
                f"verify = {written}",
                f'verify is not a program that confpy knows: "nginx", "apache" or "haproxy": {shown}',
            )
            for written, shown in (
                ('"caddy"', "'caddy'"),
                ('"nginx unix:/run/m.sock"', "'nginx unix:/run/m.sock'"),
                ('"nginx run/nginx.pid"', "'nginx run/nginx.pid'"),
                ('"haproxy unix:m.sock"', "'haproxy unix:m.sock'"),
            )
        ),
    ],
)
def test_a_verify_that_is_none_is_an_error(confd, lines, message):
    write(confd, "a.toml", f"[template]\n{MINIMAL}{lines}\n")
    (error,) = load(confd).all_errors
    assert error.message == message


@pytest.mark.parametrize("written", ["0", '"0"', '"0s"', '"0ms"', "0.0"])
@pytest.mark.parametrize("key", ["check_cmd_timeout", "reload_cmd_timeout"])
def test_no_time_for_a_command_means_no_limit_as_in_confds_fork(confd, key, written):
    resource, _ = load_one(confd, f"{key} = {written}\n")
    assert getattr(resource, key) == LONGEST


def test_a_reload_that_is_never_tried_again_is_confds_way(confd):
    resource, _ = load_one(confd, 'reload_cmd = "true"\nreload_retry = "never"\n')
    assert resource.on_reload_failure == "keep"


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ("ownr = 'root'\n", "unknown key ownr, ignored", "did you mean owner?"),
        ("watch = true\n", "unknown key watch, ignored", ""),
        ("[template.keys2]\n", "unknown key keys2, ignored", "did you mean keys?"),
        ("[backend]\nx = 1\n", None, None),
        ("[templates]\nx = 1\n", "templates stands outside [template], ignored", "did you mean [template]?"),
        (
            'check_cmd = "nginx -t"\n',
            "check_cmd does not look at the candidate",
            f'write {{{{.src}}}} for the file to check, or check_mode = "swap"; {NO_RELOAD}',
        ),
        ('check_cmd = "nginx -t"\nreload_cmd = "nginx -s reload"\n', None, None),
        ('check_cmd = "nginx -t"\ncheck_mode = "swap"\n', None, None),
        ('check_cmd = "check"\ncheck_mode = "staged"\n', None, None),
        ('check_cmd = "check {{ .src }}"\n', None, None),
        ('check_cmd = "check {{src}}"\n', None, None),
        ('check_cmd = "check $CONFPY_SRC"\n', None, None),
        ('check_cmd = ["check", "{{ src }}"]\n', None, None),
        ('reload_cmd = "nginx -s reload"\n', None, None),
    ],
)
def test_what_looks_like_a_mistake_is_a_warning_and_does_not_stop_the_resource(confd, lines, message, hint):
    _, warnings = load_one(confd, lines)
    assert [(warning.message, warning.hint) for warning in warnings] == ([(message, hint)] if message else [])


RELOAD = 'reload_cmd = "reload nginx"\n'


@pytest.mark.parametrize(
    ("lines", "mode"),
    [
        (f'check_cmd = "nginx -t"\n{RELOAD}', "swap"),
        (f'check_cmd = ["nginx", "-t"]\n{RELOAD}', "swap"),
        (f'check_cmd = "nginx -t -c {{{{.dest}}}}"\n{RELOAD}', "swap"),
        (f'check_cmd = "check $CONFPY_DEST"\n{RELOAD}', "swap"),
        ('check_cmd = "nginx -t"\nreload_signal = "HUP"\nreload_process = "nginx"\n', "swap"),
        (f'check_cmd = "nginx -t"\ncheck_mode = "staged"\n{RELOAD}', "staged"),
        (f'check_cmd = "nginx -t -c {{{{.src}}}}"\n{RELOAD}', "staged"),
        (f'check_cmd = "nginx -t -c $CONFPY_SRC"\n{RELOAD}', "staged"),
        (f'check_cmd = "nginx -t -c $CONFPY_SRC_MAIN"\n{RELOAD}', "staged"),
        (f'check_cmd = "nginx -t -c {{{{.src}}}}"\ncheck_mode = "swap"\n{RELOAD}', "swap"),
        ('check_cmd = "nginx -t"\n', "staged"),
        (RELOAD, "staged"),
    ],
)
def test_a_check_that_names_no_candidate_is_made_in_place_where_there_is_a_reload(confd, lines, mode):
    resource, _ = load_one(confd, lines)
    assert resource.check_mode == mode


def test_without_a_state_folder_nothing_is_checked_in_place_unasked(confd):
    for name, more in (("a", ""), ("b", 'check_mode = "swap"\n')):
        text = f'[template]\nsrc = "a"\ndest = "/srv/{name}"\ncheck_cmd = "nginx -t"\n{more}{RELOAD}'
        write(confd, f"{name}.toml", text)
    loaded = load_resources(str(confd.parent), Settings(), lambda key: (key,), undoes=False)
    assert [resource.check_mode for resource in loaded.resources] == ["staged", "swap"]
    (warning,) = loaded.warnings
    assert (warning.message, warning.where["resource"]) == ("check_cmd does not look at the candidate", "a")
    assert "state_dir" in warning.hint
    assert loaded.notes == ()


def test_one_line_tells_of_all_that_a_check_looks_at_in_place(confd):
    for name, dest, check in [
        ("a", "a", "nginx -t"),
        ("b", "b", "nginx -t"),
        ("c", "c", "true"),
        ("d", "a", "nginx -t"),
    ]:
        text = f'[template]\nsrc = "a"\ndest = "/srv/{dest}"\ncheck_cmd = "{check}"\n{RELOAD}'
        write(confd, f"{name}.toml", text)
    notes = [(note.level, note.event, note.fields["resource"], note.fields["command"]) for note in load(confd).notes]
    assert notes == [
        ("info", "check.in_place", "b, d", "nginx -t"),
        ("info", "check.in_place", "c", "true"),
    ]


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ('"nginx -s reload"', "nginx"),
        ('"/usr/sbin/nginx -c {{.dest}} -s reload"', "nginx"),
        ('["nginx", "-s", "reload"]', "nginx"),
        ('"sudo systemctl reload nginx.service"', "nginx"),
        ('"service nginx reload"', "nginx"),
        ('"apachectl graceful"', "apache"),
        ('"apache2 -k graceful"', "apache"),
        ('"service apache2 reload"', "apache"),
        ('"systemctl reload haproxy"', "haproxy"),
        # What tells, what is not of this machine, and what nobody knows.
        ('"nginx -s reload"\nverify = "nginx"', None),
        ('"nginx -s reload"\nverify_cmd = "true"', None),
        ('"ssh web nginx -s reload"', None),
        ('"docker exec web nginx -s reload"', None),
        ('"systemctl restart nginx"', None),
        ('"service nginx restart"', None),
        ('"nginx -s reload && curl -f localhost"', None),
        ('"systemctl reload caddy"', None),
    ],
)
def test_one_line_tells_of_a_reload_that_gives_no_answer(confd, command, program):
    for name in ("a", "b"):
        write(confd, f"{name}.toml", f'[template]\nsrc = "a"\ndest = "/srv/{name}"\nreload_cmd = {command}\n')
    notes = [note for note in load(confd).notes if note.event == "reload.unverified"]
    assert [(note.level, note.fields["resource"]) for note in notes] == ([("info", "a, b")] if program else [])
    assert all(f'verify = "{program}"' in str(note.fields["hint"]) for note in notes)


def test_a_key_above_the_table_is_warned_of(confd):
    write(confd, "a.toml", f'reload_cmd = "x"\n[template]\n{MINIMAL}')
    loaded = load(confd)
    assert names(loaded) == ["a"]
    assert [(warning.message, warning.hint) for warning in loaded.warnings] == [
        ("reload_cmd stands outside [template], ignored", "move it below [template]")
    ]


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("", "the file has no [template]", {}),
        (MINIMAL, "the file has no [template]", {}),
        ("[templte]\n" + MINIMAL, "the file has no [template]", {}),
        ("template = 3\n", "[template] is not a table", {"key": "template"}),
        ("[[template]]\n" + MINIMAL, "[template] is not a table", {"key": "template"}),
        ('[template]\ndest = "/a"\n', "src is missing", {"key": "src"}),
        ('[template]\nsrc = ""\ndest = "/a"\n', "src is missing", {"key": "src"}),
        ('[template]\nsrc = "a"\n', "dest is missing", {"key": "dest"}),
        ('[template]\nsrc = "a"\ndest = "/srv/"\n', "dest is a folder", {"key": "dest"}),
        ('[template]\nsrc = "a"\ndest = "/a\\u0000b"\n', "dest is not a string", {"key": "dest"}),
        (f"[template]\n{MINIMAL}keys = '/a'\n", "keys is not a list of strings", {"key": "keys"}),
        (f"[template]\n{MINIMAL}keys = [1]\n", "keys is not a list of strings", {"key": "keys"}),
        (f"[template]\n{MINIMAL}uid = '0'\n", "uid is not a number", {"key": "uid"}),
        (f"[template]\n{MINIMAL}uid = true\n", "uid is not a number", {"key": "uid"}),
        (f"[template]\n{MINIMAL}uid = 0x{'f' * 5000}\n", "uid is not a number", {"key": "uid"}),
        (f"[template]\n{MINIMAL}gid = -2\n", "gid is not a number", {"key": "gid"}),
        (f"[template]\n{MINIMAL}gid = 4294967295\n", "gid is not a number", {"key": "gid"}),
        (f"[template]\n{MINIMAL}reload_cmd = []\n", "reload_cmd is not a command", {"key": "reload_cmd"}),
        (f"[template]\n{MINIMAL}reload_cmd = ['']\n", "reload_cmd is not a command", {"key": "reload_cmd"}),
        (f"[template]\n{MINIMAL}reload_cmd = ['a', 1]\n", "reload_cmd is not a command", {"key": "reload_cmd"}),
        (
            f"[template]\n{MINIMAL}output_format = 'ini'\n",
            "output_format: 'ini' is not one of",
            {"key": "output_format"},
        ),
        (f"[template]\n{MINIMAL}on_drift = 'panic'\n", "on_drift: 'panic' is not one of", {"key": "on_drift"}),
        (f"[template]\n{MINIMAL}check_cmd_timeout = -1\n", "check_cmd_timeout is not a", {"key": "check_cmd_timeout"}),
        ("[template]\nsrc = \n", "the file is not valid TOML", {"line": 2}),
        ("[template]\nsrc = 'a'\nsrc = 'b'\n", "the file is not valid TOML", {"line": 3}),
    ],
)
def test_a_bad_file_stops_only_itself_and_says_where(confd, text, message, where):
    write(confd, "bad.toml", text)
    write(confd, "good.toml", f"[template]\n{MINIMAL}")
    loaded = load(confd)
    assert names(loaded) == ["good"]
    (error,) = loaded.all_errors
    assert error.message.startswith(message)
    assert error.where == {"resource": "bad", "file": str(confd / "bad.toml"), **where}
    assert error.exit_code == 2
    assert "\n" not in str(error)


def test_the_words_of_a_command_are_not_shown_since_a_password_may_be_among_them(confd):
    write(confd, "a.toml", f"[template]\n{MINIMAL}reload_cmd = ['curl', '-u', 'me:canary', 1]\n")
    (error,) = load(confd).all_errors
    assert "canary" not in str(error)


def test_of_two_resources_with_one_dest_the_last_wins_with_a_warning_that_names_both(confd, tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    for name, dest in [("a", "real/x"), ("b", "real/y"), ("c", "real//../real/x"), ("d", "link/x")]:
        write(confd, f"{name}.toml", f'[template]\nsrc = "s"\ndest = "{tmp_path}/{dest}"\n')
    loaded = load(confd)
    assert names(loaded) == ["b", "d"]
    assert [(warning.message, warning.hint, warning.where["resource"]) for warning in loaded.warnings] == [
        ("the resource a has the same dest", "a is left out; give each its own dest", "c"),
        ("the resource c has the same dest", "c is left out; give each its own dest", "d"),
    ]


def test_a_bad_file_does_not_push_out_the_resource_whose_dest_it_has(confd):
    write(confd, "a.toml", f"[template]\n{MINIMAL}")
    write(confd, "b.toml", f"[template]\n{MINIMAL}mode = 644\n")
    assert names(load(confd)) == ["a"]


@given(strategies.binary(max_size=100), strategies.sampled_from(sorted(OPTIONS)))
def test_no_file_whatever_its_bytes_makes_loading_fail(tmp_path_factory, content, key):
    confd = tmp_path_factory.getbasetemp() / "any" / "conf.d"
    confd.mkdir(parents=True, exist_ok=True)
    (confd / "a.toml").write_bytes(f"[template]\n{MINIMAL}{key} = ".encode() + content)
    loaded = load(confd)
    assert len(loaded.resources) + len(loaded.all_errors) == 1


# --- the manual ------------------------------------------------------------------------------------------------------


def test_every_example_of_the_manual_loads_without_an_error(confd):
    examples = re.findall(r"^```toml\n(.*?)^```", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        write(confd, f"{number}.toml", example)
    loaded = load(confd)
    assert loaded.all_errors == ()
    assert len(loaded.resources) == len(examples)
    assert {warning.message.split(":")[0] for warning in loaded.warnings} <= {
        "owner is not known on this machine",
        "group is not known on this machine",
    }


def test_every_reload_of_the_manual_is_one(confd):
    examples = re.findall(r"^```toml\n(.*?)^```", (MANUAL.parent / "commands.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 8
    for example in examples:
        resource, warnings = load_one(confd, example)
        assert resource.reload_cmd is not None
        assert isinstance(resource.reload_cmd, CommandReload) == ("reload_cmd" in example)
        assert warnings == ()


def test_a_command_that_is_an_empty_string_is_none_as_in_confd(confd):
    resource, _ = load_one(confd, "check_cmd = ''\nreload_cmd = '  '\n")
    assert (resource.check_cmd, resource.reload_cmd) == (None, None)


def test_the_prefix_is_cut_as_the_store_spells_it(confd):
    write(confd, "a.toml", f"[template]\n{MINIMAL}prefix = '/My_App'\nkeys = ['/x']\n")
    (resource,) = load(confd, prefixes_of=EnvStore({}).prefixes).resources
    assert (resource.strip, resource.prefixes) == ("/my/app", ("/my/app/x",))


# --- delimiters ------------------------------------------------------------------------------------------------------


def test_delimiters_are_two_texts_and_those_of_every_template_are_as_good_as_none(confd):
    assert load_one(confd, 'delimiters = ["[[", "]]"]\n')[0].delimiters == ("[[", "]]")
    assert load_one(confd, 'delimiters = ["{{", "}}"]\n')[0].delimiters == ()


@pytest.mark.parametrize(
    "written",
    [
        '"[["',
        '["[["]',
        '["[[", "]]", "x"]',
        '["", "]]"]',
        '["[ [", "]]"]',
        '["a", "b"]',
        '["{%", "%}"]',
        '["<<", "#}"]',
        "[1, 2]",
    ],
)
def test_delimiters_that_could_not_be_told_from_what_stands_beside_them_are_refused(confd, written):
    write(confd, "a.toml", f"[template]\n{MINIMAL}delimiters = {written}\n")
    (error,) = load(confd).all_errors
    assert error.message.startswith('delimiters is not a left and a right delimiter, such as ["[[", "]]"]')


def test_a_signal_to_the_supervised_program_is_a_mistake_only_of_a_run_that_supervises_none(confd):
    resource, _ = load_one(confd, 'reload_signal = "sigusr2"\n')
    assert resource.reload_cmd == SignalReload("USR2")
    write(confd, "b.toml", '[template]\nsrc = "a.tmpl"\ndest = "/srv/b"\n')
    loaded = reject_unaddressed(load(confd))
    assert names(loaded) == ["b"]
    error = loaded.errors["a"]
    assert (error.message, error.where["file"]) == ("reload_signal does not say who gets it", str(confd / "a.toml"))


def test_variables_are_filled_in_before_anything_else_is_made_of_a_resource(confd, monkeypatch):
    monkeypatch.setenv("SITE", "a")
    text = """[template]
src = "{{ env('SITE') }}.j2"
dest = '/srv/{{ env("SITE") }}'
keys = ["/{{ env('SITE') }}", "b"]
prefix = "/{{ env('STAGE', 'test') }}"
"""
    write(confd, "x.toml", text)
    (one,) = load(confd).resources
    assert (one.src, one.dest, one.prefixes, one.strip) == ("a.j2", "/srv/a", ("/test/a", "/test/b"), "/test")
    monkeypatch.delenv("SITE")
    (error,) = load(confd).all_errors
    assert (error.exit_code, error.where["line"], error.where["key"]) == (2, 2, "src")
    assert error.where["file"].endswith("x.toml")
