from __future__ import annotations

import os

import pytest
from hypothesis import given, strategies

from confpy.clock import LONGEST
from confpy.config import sources
from confpy.config.kinds import ADDRESS, seconds
from confpy.config.settings import OPTIONS, Settings
from confpy.config.sources import load_settings
from confpy.errors import UsageError


@pytest.fixture
def confdir(tmp_path):
    """A confdir without a settings file."""
    return tmp_path


def write(confdir, text, name="confpy.toml"):
    path = confdir / name
    path.write_text(text)
    return str(path)


def load(confdir, flags=(), environ=()):
    return load_settings({"confdir": str(confdir), **dict(flags)}, dict(environ))


def warned(warnings):
    return [(warning.message, warning.hint) for warning in warnings]


def test_flags_weigh_more_than_variables_more_than_the_file_more_than_defaults(confdir):
    file = write(confdir, "interval = 4\nresync = 4\nsettle = 4\n")
    variables = {"CONFPY_INTERVAL": "3", "CONFPY_RESYNC": "3"}
    settings, warnings = load(confdir, {"interval": "2"}, variables)
    assert (settings.interval, settings.resync, settings.settle, settings.max_wait) == (2, 3, 4, 2)
    assert [settings.origin(name) for name in ("interval", "resync", "settle", "max_wait")] == [
        "flag -interval",
        "variable CONFPY_RESYNC",
        f"file {file}",
        "default",
    ]
    assert warnings == []


def test_without_anything_said_the_defaults_are_those_of_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "CONFDIRS", (str(tmp_path / "confpy"), str(tmp_path / "confd")))
    settings, warnings = load_settings({}, {})
    assert settings == Settings(
        confdir=str(tmp_path / "confd"), cache_dir="/var/cache/confpy", state_dir="/var/lib/confpy"
    )
    assert warnings == []
    assert settings.origins == {}


def test_a_store_whose_certificates_are_not_checked_is_warned_of(tmp_path):
    _, warnings = load(tmp_path, {"client_insecure": "true"})
    assert [warning.message for warning in warnings] == ["flag -client-insecure: any certificate is trusted"]


def test_the_confdir_is_confpys_if_it_exists_else_confds(monkeypatch, tmp_path):
    own, old = tmp_path / "confpy", tmp_path / "confd"
    monkeypatch.setattr(sources, "CONFDIRS", (str(own), str(old)))
    assert load_settings({}, {})[0].confdir == str(old)
    own.mkdir()
    settings, _ = load_settings({}, {})
    assert (settings.confdir, settings.origin("confdir")) == (str(own), "default")


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_a_confdir_that_somebody_chose_is_known_as_named(tmp_path, way):
    flags = {"confdir": "/srv/a"} if way == "flag" else {}
    environ = {"CONFPY_CONFDIR": "/srv/a"} if way == "variable" else {}
    if way == "file":
        flags = {"config_file": write(tmp_path, 'confdir = "/srv/a"\n')}
    settings, _ = load_settings(flags, environ)
    assert (settings.confdir, settings.origin("confdir").partition(" ")[0]) == ("/srv/a", way)


def test_confpy_toml_is_read_before_confd_toml_and_a_named_file_before_both(confdir):
    write(confdir, "interval = 1", "confd.toml")
    assert load(confdir)[0].interval == 1
    write(confdir, "interval = 2", "confpy.toml")
    assert load(confdir)[0].interval == 2
    other = write(confdir, "interval = 3", "other.toml")
    settings, _ = load(confdir, {"config_file": other})
    assert (settings.interval, settings.config_file) == (3, other)


def test_a_named_file_that_is_missing_is_warned_of_and_does_not_stop(confdir):
    settings, warnings = load(confdir, {"config_file": str(confdir / "gone.toml")})
    assert settings.config_file is None
    assert warned(warnings) == [("the settings file does not exist: going on without it", "")]


def test_confds_own_keys_work_in_every_spelling(confdir):
    write(
        confdir,
        'backend = "etcdv3"\nlog-level = "warning"\nsync-only = true\nclient_cakeys = "/ca"\nkeepstagefile = true\n'
        'Interval = 600\nnodes = ["a", "b"]\nfile = ["/x,y"]\nprefix = "/p"\nclient_cert = "/c"\nONETIME = true\n',
        "confd.toml",
    )
    settings, warnings = load(confdir)
    assert settings.log_level == "warning"
    assert (settings.sync_only, settings.keep_stage_file, settings.onetime) == (True, True, True)
    assert (settings.client_ca_keys, settings.client_cert, settings.prefix) == ("/ca", "/c", "/p")
    assert (settings.nodes, settings.files, settings.interval) == (("a", "b"), ("/x,y",), 600)
    assert warnings == []


def test_every_setting_can_be_given_by_each_of_its_names(confdir):
    for option in OPTIONS:
        if option.name in {"confdir", "config_file"}:
            continue
        word = "USR2" if option.name == "exec_stop_signal" else option.kind.metavar.split("|")[-1]
        text, typed = {
            bool: ("true", "true"),
            float: ("7", "7"),
            int: ("7", "7"),
            tuple: ("PWR,USR2", '["PWR", "USR2"]'),
        }.get(type(option.default), (word, f'"{word}"'))
        if option.kind is ADDRESS:
            text, typed = "unix:/a", '"unix:/a"'
        by_flag, _ = load(confdir, {option.name: text})
        assert by_flag.origin(option.name) == f"flag -{option.flag}"
        for variable in option.variables:
            called = {"store": "env"} if variable.startswith("CONFD_") else {}
            by_variable, _ = load(confdir, called, {variable: text})
            assert getattr(by_variable, option.name) == getattr(by_flag, option.name) != option.default
        for key in option.keys:
            file = write(confdir, f"{key} = {typed}\n")
            by_file, _ = load(confdir)
            assert getattr(by_file, option.name) == getattr(by_flag, option.name)
            os.unlink(file)


@pytest.mark.parametrize("name", ["check_cmd_timeout", "reload_cmd_timeout"])
@pytest.mark.parametrize("text", ["0", "0s", "0ms"])
def test_no_time_for_a_command_means_no_limit_by_flag_variable_and_file(confdir, name, text):
    by_flag, _ = load(confdir, {name: text})
    by_variable, _ = load(confdir, {}, {f"CONFPY_{name.upper()}": text})
    by_variable_of_the_fork, _ = load(confdir, {"store": "env"}, {f"CONFD_{name.upper()}": text})
    write(confdir, f'{name} = "{text}"\n')
    by_file, _ = load(confdir)
    found = {getattr(settings, name) for settings in (by_flag, by_variable, by_variable_of_the_fork, by_file)}
    assert found == {LONGEST}


def test_an_unknown_key_is_a_warning_with_a_suggestion(confdir):
    file = write(confdir, "intervall = 3\nzzz = 1\nverbose = true\n")
    settings, warnings = load(confdir)
    assert settings.interval == 600
    assert [hint for _, hint in warned(warnings)] == [
        "did you mean interval?",
        "",
        "retired: use log-level",
    ]
    assert warnings[0].where == {"file": file, "key": "intervall"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[confd]\ninterval = 3\n", "write settings above all tables"),
        (
            '[template]\nsrc = "a"\ndest = "b"\n',
            "it is a resource: all of conf.d is delivered, without -config-file",
        ),
    ],
)
def test_a_table_in_the_settings_file_is_a_warning(confdir, text, hint):
    write(confdir, text)
    settings, warnings = load(confdir)
    assert settings.interval == 600
    assert [hint for _, hint in warned(warnings)] == [hint]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('watch = "true"', "true or false"),
        ("watch = 1", "true or false"),
        ("interval = true", "a duration"),
        ("interval = 0", "a duration above zero"),
        ("interval = -1", "a duration"),
        ("interval = nan", "a duration"),
        ("interval = inf", "a duration"),
        ("interval = " + "9" * 400, "a duration"),
        ("interval = 0x" + "f" * 5000, "a duration"),
        ('interval = "soon"', "a duration"),
        ("nodes = 5", "a string or a list of strings"),
        ("nodes = [5]", "a string or a list of strings"),
        ("prefix = []", "a string"),
        ('log-level = "loud"', "one of debug, info, warning, error"),
        ('client_key = "a\\u0000b"', "a path"),
        ('scheme = "ftp"', "one of http, https"),
    ],
)
def test_a_wrong_value_in_the_file_is_an_error_with_file_key_and_what_was_expected(confdir, line, expected):
    file = write(confdir, line)
    with pytest.raises(UsageError) as caught:
        load(confdir)
    key = line.partition(" ")[0]
    message = caught.value.message
    assert message.startswith(key)
    assert f" is not {expected}" in message
    # What is not one of some words is the value, not the setting.
    assert message.startswith(f"{key}: ") == expected.startswith("one of")
    assert caught.value.where == {"file": file, "key": key}
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ({"interval": "abc"}, {}, "flag -interval is not a duration"),
        ({"watch": "yes"}, {}, "flag -watch is not true or false: 'yes'"),
        ({}, {"CONFPY_WATCH": "yes"}, "variable CONFPY_WATCH is not true or false: 'yes'"),
        ({}, {"CONFPY_SETTLE": "1d"}, "variable CONFPY_SETTLE is not a duration"),
    ],
)
def test_a_wrong_flag_or_variable_is_named_as_it_was_written(confdir, flags, environ, message):
    with pytest.raises(UsageError) as caught:
        load(confdir, flags, environ)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (b"a = 1\nb = = 2\n", 2, "the file is not valid TOML"),
        (b"a = 1\na = 2\n", 2, "the file is not valid TOML"),
        (b"a = [", None, "the file is not valid TOML"),
        (b"a = 1\nb = '\xff'\n", 2, "the file is not UTF-8"),
        (b"a = " + b"[" * 5000 + b"\n", None, "the file is not valid TOML"),
        (b"a = " + b"9" * 5000 + b"\n", None, "the file is not valid TOML"),
        (b"#" * ((1 << 20) + 1), None, "the file is larger than 1 MiB"),
    ],
)
def test_a_broken_file_is_an_error_with_file_and_line(confdir, content, line, part):
    path = confdir / "confpy.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(confdir)
    assert caught.value.message.startswith(part)
    assert caught.value.where == {"file": str(path), **({"line": line} if line else {})}
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_read(confdir):
    (confdir / "confpy.toml").write_bytes(b"\xef\xbb\xbfinterval = 5\r\nwatch = true\r\n")
    settings, warnings = load(confdir)
    assert (settings.interval, settings.watch, warnings) == (5, True, [])


def test_a_fifo_or_a_folder_in_the_files_place_is_refused_and_holds_nothing_up(confdir):
    os.mkfifo(confdir / "confpy.toml")
    with pytest.raises(UsageError, match="the file is not a regular file"):
        load(confdir)
    os.unlink(confdir / "confpy.toml")
    os.mkdir(confdir / "confpy.toml")
    with pytest.raises(UsageError, match="the path cannot be read: Is a directory"):
        load(confdir)


def test_empty_values_count_as_not_given_but_for_an_empty_prefix(confdir):
    write(confdir, 'prefix = "/p"\nnodes = ["a"]\nbackend = ""\n')
    settings, _ = load(confdir, {"nodes": "", "prefix": "", "log_level": ""}, {"CONFPY_BACKEND": ""})
    assert (settings.nodes, settings.prefix, settings.backend, settings.log_level) == (("a",), "", "etcd", "info")


@pytest.mark.parametrize(("backend", "nodes"), [("etcd", ("a", "b")), ("etcdv3", ("a", "b")), ("file", ())])
def test_the_peers_of_etcdctl_are_the_nodes_of_etcd_where_none_are_given(confdir, backend, nodes):
    for variable in ("ETCDCTL_PEERS", "ETCDCTL_ENDPOINTS"):
        peers = {variable: "a, b,"}
        assert load(confdir, {"backend": backend}, peers)[0].nodes == nodes
        assert load(confdir, {"backend": backend, "nodes": "c"}, peers)[0].nodes == ("c",)


def test_of_etcdctl_s_variables_that_of_the_older_one_counts_first(confdir):
    both = {"ETCDCTL_PEERS": "", "ETCDCTL_ENDPOINTS": "b"}
    settings, _ = load(confdir, {}, both)
    assert (settings.nodes, settings.origin("nodes")) == (("b",), "variable ETCDCTL_ENDPOINTS")
    assert load(confdir, {}, {**both, "ETCDCTL_PEERS": "a"})[0].nodes == ("a",)


@pytest.mark.parametrize("line", ['prefix = "x', "prefix = 'x", 'nodes = ["x', 'prefix = """x'])
@pytest.mark.parametrize("rest", ["\ninterval = 5\n", "", "\nprefix = 'y'\n"])
def test_a_string_that_is_not_closed_is_called_so(confdir, line, rest):
    write(confdir, line + rest)
    with pytest.raises(UsageError, match="the file is not valid TOML: a string is not closed") as caught:
        load(confdir)
    assert "quote" in caught.value.hint


def test_the_first_cache_directory_of_systemd_is_used_where_none_is_given(confdir):
    systemd = {"CACHE_DIRECTORY": "/run/a:/run/b"}
    settings, _ = load(confdir, {}, systemd)
    assert (settings.cache_dir, settings.origin("cache_dir")) == ("/run/a", "variable CACHE_DIRECTORY")
    assert load(confdir, {"cache_dir": "/x"}, systemd)[0].cache_dir == "/x"


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        ({"HOME": "/h"}, ("/h/.local/state/confpy", "/h/.cache/confpy")),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "relative"}, ("/s/confpy", "/h/.cache/confpy")),
        ({"HOME": "/h", "STATE_DIRECTORY": "/run/s"}, ("/run/s", "/h/.cache/confpy")),
        ({"HOME": "/"}, ("lib", "cache")),
        ({}, ("lib", "cache")),
    ],
)
def test_who_may_not_write_to_the_systems_folders_has_state_and_cache_in_his_own(
    confdir, tmp_path, monkeypatch, environ, folders
):
    monkeypatch.setattr("confpy.config.sources.STATE_DIR", str(tmp_path / "lib"))
    monkeypatch.setattr("confpy.config.sources.CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found, _ = load(confdir, {}, environ)
    assert (found.state_dir, found.cache_dir) == tuple(str(tmp_path / folder) for folder in folders)
    (tmp_path / "lib").mkdir()
    assert load(confdir, {}, environ)[0].state_dir == environ.get("STATE_DIRECTORY", f"{tmp_path}/lib")
    assert load(confdir, {"state_dir": "/x"}, environ)[0].state_dir == "/x"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load(confdir, {}, environ)[0].cache_dir == f"{tmp_path}/cache"


def test_a_mistyped_variable_is_warned_of_and_those_of_others_are_not(confdir):
    environ = {
        "CONFPY_INTERVALL": "3",
        "CONFPY_NODE": "a",
        "CONFPY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CONFPY_SERVICE_HOST": "10.0.0.1",
        "CONFPY_SRC": "/x",
        "CONFPY_RESOURCE": "r",
        "CONFD_INTERVAL": "4",
    }
    _, warnings = load(confdir, {}, environ)
    assert warned(warnings) == [
        ("unknown variable CONFPY_INTERVALL, ignored", "did you mean CONFPY_INTERVAL?"),
        ("unknown variable CONFPY_NODE, ignored", "did you mean CONFPY_NODES?"),
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (600, 600),
        (0.5, 0.5),
        ("600", 600),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("2s", 2),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("10us", 1e-5),
        (" 2s ", 2),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_gos_units(written, expected):
    assert seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written", ["", "s", "2d", "-1s", "1 s", "1s2", "٣s", "1e3", "nan", "99999999h", True, None, []]
)
def test_anything_else_is_no_duration(written):
    with pytest.raises(ValueError):  # noqa: PT011  # a kind's only error
        seconds(written)


def load_or_error(flags):
    try:
        return load_settings(flags, {})[0]
    except UsageError as error:
        return error


@given(strategies.dictionaries(strategies.sampled_from([option.name for option in OPTIONS]), strategies.text()))
def test_no_flag_whatever_its_text_ends_in_anything_but_a_usage_error(flags):
    flags = {**flags, "config_file": "/nowhere", "confdir": "/nowhere"}
    outcome = load_or_error(flags)
    assert "\n" not in str(outcome) if isinstance(outcome, UsageError) else outcome.interval > 0


@given(strategies.binary(max_size=200))
def test_no_settings_file_whatever_its_bytes_ends_in_anything_but_a_usage_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    outcome = load_or_error({"config_file": str(path)})
    assert outcome.where["file"] == str(path) if isinstance(outcome, UsageError) else outcome.config_file == str(path)


# --- logins ----------------------------------------------------------------------------------------------------------


def test_a_secret_on_the_command_line_warns_and_is_shown_nowhere(confdir):
    flags = {"password": "s3cret", "auth_token": "t0ken"}
    settings, warnings = load(confdir, flags)
    assert (settings.password, settings.auth_token) == ("s3cret", "t0ken")
    assert sorted(warning.message.split(":")[0] for warning in warnings) == ["flag -auth-token", "flag -password"]
    assert all("CONFPY_" in warning.hint and "-file" in warning.hint for warning in warnings)
    said = repr(settings) + "".join(map(str, warnings))
    assert "s3cret" not in said
    assert "t0ken" not in said


def test_a_secret_from_a_variable_or_a_file_warns_of_nothing(confdir):
    write(confdir, 'password = "s3cret"\n')
    settings, warnings = load(confdir, environ={"CONFPY_AUTH_TOKEN": "t0ken"})
    assert (settings.password, settings.auth_token, warnings) == ("s3cret", "t0ken", [])


def test_a_secret_of_the_wrong_type_is_refused_and_not_shown(confdir):
    write(confdir, "password = 123456789\n")
    with pytest.raises(UsageError, match="password is not a string") as caught:
        load(confdir)
    assert "123456789" not in str(caught.value)


CONSULS = {
    "CONSUL_HTTP_ADDR": "consul:8501",
    "CONSUL_HTTP_TOKEN": "t0ken",
    "CONSUL_HTTP_SSL": "true",
    "CONSUL_CACERT": "/ca",
    "CONSUL_CLIENT_CERT": "/cert",
    "CONSUL_CLIENT_KEY": "/key",
}


def test_consuls_own_variables_are_honoured_for_consul_alone(confdir):
    settings, warnings = load(confdir, {"backend": "consul"}, CONSULS)
    assert (settings.nodes, settings.auth_token, settings.scheme) == (("consul:8501",), "t0ken", "https")
    assert (settings.client_ca_keys, settings.client_cert, settings.client_key) == ("/ca", "/cert", "/key")
    assert settings.origin("auth_token") == "variable CONSUL_HTTP_TOKEN"
    assert warnings == []
    other, _ = load(confdir, {"backend": "etcdv3"}, CONSULS)
    assert (other.nodes, other.auth_token, other.scheme, other.client_cert) == ((), None, "http", None)


def test_what_was_said_beats_consuls_own_variables_in_whole_groups(confdir):
    write(confdir, 'auth_token_file = "/token"\nclient_cert = "/other"\n')
    flags = {"backend": "consul", "nodes": "here", "scheme": "http"}
    settings, _ = load(confdir, flags, {**CONSULS, "CONFPY_CLIENT_CA_KEYS": "/mine"})
    assert (settings.nodes, settings.scheme, settings.client_ca_keys) == (("here",), "http", "/mine")
    assert (settings.auth_token, settings.auth_token_file) == (None, "/token")
    assert (settings.client_cert, settings.client_key) == ("/other", None)


def test_a_variable_of_consuls_that_means_nothing_is_named(confdir):
    with pytest.raises(UsageError, match="CONSUL_HTTP_SSL is not true or false"):
        load(confdir, {"backend": "consul"}, {"CONSUL_HTTP_SSL": "perhaps"})
