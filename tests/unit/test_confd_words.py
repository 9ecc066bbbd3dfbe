"""What confd 0.16 and its living fork say is understood: as flags, in the file, as variables, by the way of calling."""

from __future__ import annotations

import shlex
import sys
import types
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies

from confpy import cli
from confpy.commands import COMMANDS
from confpy.commands.flags import KNOWN, parse
from confpy.config import confd as dialect
from confpy.config import sources
from confpy.config.confd import VARIABLES, WORDS
from confpy.config.load import load_resources
from confpy.config.settings import OPTIONS
from confpy.config.sources import load_settings
from confpy.config.stores import STORES
from confpy.errors import UsageError
from confpy.stores import open_store
from tests.generated import with_part

CONFD = """
    backend= confdir= config-file= node= interval= watch onetime noop sync-only keep-stage-file prefix= log-level=
    scheme= srv-domain= srv-record= client-cert= client-key= client-ca-keys= client-insecure basic-auth username=
    password= auth-token= auth-type= app-id= user-id= role-id= secret-id= path= table= separator= file= filter=
    secret-keyring= verbose debug quiet version
"""
FORK = """
    confdir= config-file= interval= log-level= log-format= noop onetime prefix= sync-only watch failure-mode=
    keep-stage-file srv-domain= srv-record= check-config preflight validate mock-data= resource= diff diff-context=
    color debounce= batch-interval= template-cache no-template-cache stat-cache-ttl= backend-timeout= check-cmd-timeout=
    reload-cmd-timeout= dial-timeout= read-timeout= write-timeout= retry-max-attempts= retry-base-delay=
    retry-max-delay= watch-error-backoff= preflight-timeout= shutdown-timeout= systemd-notify watchdog-interval=
    metrics-addr= version node= n= scheme= basic-auth username= password= auth-token= client-insecure client-cert=
    client-key= client-ca-keys= auth-type= app-id= user-id= role-id= secret-id= path= separator= table=
    secretsmanager-version-stage= secretsmanager-no-flatten acm-export-private-key imds-cache-ttl= file= filter=
"""
"""Their flags, as their own -help shows them; ``=`` marks those that take a value."""
SETTINGS = {option.name for option in OPTIONS}
IDLE = [word for word in WORDS if not word.means]


def settings_of(line, environ=(), file="/nowhere"):
    flags = parse(cli.spell(shlex.split(line)).flags)
    found, warnings = load_settings({"config_file": file, **flags}, dict(environ))
    return found, [warning for warning in warnings if "does not exist" not in warning.message]


# --- the table -------------------------------------------------------------------------------------------------------


def test_a_word_is_none_of_our_own_and_means_settings_that_there_are():
    names = [word.name for word in WORDS]
    assert len(set(names)) == len(names)
    spelled = {key for option in OPTIONS for key in (option.name, *option.keys, option.flag.replace("-", "_"))}
    assert spelled.isdisjoint(names)
    assert all(SETTINGS.issuperset(word.means) and (word.means or word.hint) for word in WORDS)
    assert SETTINGS.issuperset(dialect.IN_THE_FORK)


def test_every_variable_of_the_fork_belongs_to_a_setting_or_a_word():
    named = {dialect.variable(name) for name in (*SETTINGS, *(word.name for word in WORDS))} - {""}
    assert named == {f"CONFD_{name.upper()}" for name in VARIABLES}
    assert len(VARIABLES) == 36


@pytest.mark.parametrize("flag", sorted({*CONFD.split(), *FORK.split()}))
def test_every_flag_of_confd_and_of_its_fork_is_taken_with_as_many_values_as_there(flag):
    name, value, _ = flag.partition("=")
    if name == "version":
        assert cli.spell(["-version"]).version
    elif value:
        spelled = cli.spell([f"-{name}", "-x", f"--{name}=-x", "-watch"]).flags
        assert spelled[0] == spelled[1] == (dialect.SHORT.get(name, name), "-x")
    else:
        spelled = cli.spell([f"-{name}", f"--{name}=false", "-watch"]).flags
        assert spelled == ((name, "true"), (name, "false"), ("watch", "true"))


# --- what has no meaning here ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", IDLE, ids=lambda word: word.name)
def test_a_flag_without_a_meaning_is_warned_of_by_name_and_confpy_goes_on(word):
    found, warnings = settings_of(f"-{word.flag}=topsecret -interval 9")
    assert found.interval == 9
    assert [(warning.message, warning.hint) for warning in warnings] == [
        (f"flag -{word.flag} has no meaning here, ignored", word.hint)
    ]
    assert "topsecret" not in str(warnings[0])


@pytest.mark.parametrize("word", IDLE, ids=lambda word: word.name)
def test_a_key_without_a_meaning_is_warned_of_by_name_and_the_file_is_read_on(word, tmp_path):
    file = tmp_path / "confd.toml"
    file.write_text(f'{word.name} = "topsecret"\ninterval = 9\n')
    found, (warning,) = settings_of("", file=str(file))
    assert found.interval == 9
    assert (warning.message, warning.hint) == (f"{word.name} has no meaning here, ignored", word.hint)
    assert "topsecret" not in str(warning)


def test_a_variable_without_a_meaning_is_warned_of_by_name_if_the_fork_reads_it():
    _, warnings = settings_of("env", {"CONFD_STAT_CACHE_TTL": "1s", "CONFD_TABLE": "x", "CONFD_RETRY_MAX_DELAY": "5s"})
    assert [warning.message for warning in warnings] == [
        "variable CONFD_STAT_CACHE_TTL has no meaning here, ignored",
        "variable CONFD_RETRY_MAX_DELAY has no meaning here, ignored",
    ]


@pytest.mark.parametrize("name", sorted(set(dialect.STORES.values()) - STORES.keys()))
def test_a_store_that_is_not_there_is_refused_with_those_that_are(name):
    for line in (f"-backend {name}", name):
        with pytest.raises(UsageError, match=f"unknown store '{name}'.*etcdv3") as caught:
            open_store(settings_of(line)[0].backend, settings_of(line)[0])
        assert caught.value.exit_code == 2


def test_every_store_that_is_there_may_be_named_without_a_flag():
    assert dialect.STORES.keys() >= STORES.keys()


# --- what means something else ---------------------------------------------------------------------------------------


def test_the_forks_address_for_metrics_is_that_of_the_status():
    for found, warnings in (settings_of("etcd", {"CONFD_METRICS_ADDR": ":9100"}), settings_of("-metrics-addr :9100")):
        assert (found.status_addr, warnings) == (":9100", [])
    assert settings_of("-status-addr 9000 -metrics-addr :9100")[0].status_addr == "9000"


@pytest.mark.parametrize(
    "word", [word for word in WORDS if word.means not in {(), ("status_addr",)}], ids=lambda word: word.name
)
def test_a_word_gives_its_value_to_what_it_means_and_less_weight_than_the_settings_own_name(word, tmp_path):
    text, other, typed = ("true", "false", "true") if word.truth else ("7s", "9s", '"7s"')
    meant = True if word.truth else 7
    file = tmp_path / "confd.toml"
    file.write_text(f"{word.name} = {typed}\n")
    ways = [settings_of(f"-{word.flag}={text}"), settings_of("", file=str(file))]
    if variable := dialect.variable(word.name):
        ways.append(settings_of("etcd", {variable: text}))
    for found, warnings in ways:
        assert [getattr(found, name) for name in word.means] == [meant] * len(word.means)
        assert [warning.hint for warning in warnings] == [word.hint] * bool(word.hint)
    for name in word.means:
        own = next(option for option in OPTIONS if option.name == name)
        found, _ = settings_of(f"-{own.flag}={other} -{word.flag}={text}")
        assert getattr(found, name) != meant
        file.write_text(f"{name} = {other if word.truth else repr(other)}\n{word.name} = {typed}\n")
        assert getattr(settings_of("", file=str(file))[0], name) != meant


def test_a_look_at_the_configuration_never_becomes_a_delivery():
    for flag in ("-check-config", "-preflight", "-validate -mock-data x.json"):
        found, warnings = settings_of(f"etcd {flag}")
        assert (found.onetime, found.noop) == (True, True)
        assert warnings[0].message == f"flag {flag.split()[0]} means onetime and noop here"


@pytest.mark.parametrize("name", sorted(VARIABLES & SETTINGS))
def test_the_forks_variables_are_read_and_weigh_less_than_ours_and_than_flags(name):
    option = next(option for option in OPTIONS if option.name == name)
    text = {bool: "true", float: "7"}.get(type(option.default), option.kind.metavar.split("|")[-1])
    found, warnings = settings_of("etcd", {f"CONFD_{name.upper()}": text})
    if name != "config_file":  # settings_of names one itself
        assert found.origin(name) == f"variable CONFD_{name.upper()}"
        both = {f"CONFD_{name.upper()}": text, f"CONFPY_{name.upper()}": text}
        assert settings_of("etcd", both)[0].origin(name) == f"variable CONFPY_{name.upper()}"
        assert settings_of(f"etcd -{option.flag}={text}", both)[0].origin(name) == f"flag -{option.flag}"
    assert warnings == []


def test_the_forks_variables_are_ignored_where_confpy_is_called_as_confd():
    environ = {f"CONFD_{name.upper()}": "7" for name in VARIABLES}
    known = {"CONFD_CLIENT_CERT", "CONFD_CLIENT_KEY", "CONFD_CLIENT_CAKEYS"}
    found, warnings = settings_of("-backend etcd", {**environ, "CONFD_CLIENT_CAKEYS": "ca", "CONFPY_PREFIX": "/own"})
    assert warnings == []
    assert (found.client_cert, found.client_key, found.client_ca_keys) == ("7", "7", "ca")
    assert (found.prefix, found.origin("prefix")) == ("/own", "variable CONFPY_PREFIX")
    assert not any("CONFD_" in origin for origin in found.origins.values() if origin.split()[-1] not in known)
    assert set(found.ignored_variables) == environ.keys() - known
    assert settings_of("etcd", environ)[0].ignored_variables == ()
    assert settings_of("", {"CONFD_PREFIX": "", "CONFD_NODES": "x", "CONFD_CLIENT_KEY": "k"})[0].ignored_variables == ()


def test_a_variable_of_confds_that_makes_no_sense_is_a_warning_since_scripts_may_mean_anything_by_it():
    found, (warning,) = settings_of("etcd", {"CONFD_WATCH": "yes", "CONFD_INTERVAL": "9"})
    assert (found.watch, found.interval) == (False, 9)
    assert (warning.message, warning.hint) == (
        "variable CONFD_WATCH is not true or false: 'yes'",
        "going on without it",
    )
    with pytest.raises(UsageError, match="CONFPY_WATCH"):
        settings_of("", {"CONFPY_WATCH": "yes"})


# --- ways of calling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "etcd --node http://a:2379 -n b --watch --prefix /prod",
        "--watch --prefix=/prod etcd --node=http://a:2379 --node b",
        "--watch etcd --node http://a:2379,b --prefix /prod",
    ],
)
def test_the_fork_names_its_backend_without_a_flag(line):
    found, warnings = settings_of(line)
    assert (found.backend, found.nodes, found.watch, found.prefix) == ("etcdv3", ("http://a:2379", "b"), True, "/prod")
    assert found.join_prefixes is True
    assert warnings == []


def test_what_is_given_counts_more_than_what_a_way_of_calling_brings(tmp_path):
    (tmp_path / "confd.toml").write_text('backend = "file"\njoin_prefixes = false\n')
    for environ, file in [({"CONFPY_JOIN_PREFIXES": "0"}, "/nowhere"), ({}, str(tmp_path / "confd.toml"))]:
        found, _ = settings_of("env", {"CONFPY_BACKEND": "file", **environ}, file)
        assert (found.backend, found.origin("backend")) == ("env", "argument env")
        assert found.join_prefixes is False
    found, _ = settings_of("-join-prefixes=false -backend etcd etcd")
    assert (found.backend, found.join_prefixes) == ("etcd", False)
    assert settings_of("-backend etcd")[0].join_prefixes is False
    assert settings_of("etcd -allow-empty=false")[0].allow_empty is False
    assert settings_of("-backend etcd")[0].allow_empty is False


@pytest.mark.parametrize("line", ["etcd consul", "etcd etcd", "-watch false", "etcd deliver"])
def test_another_argument_is_refused(line):
    with pytest.raises(UsageError, match="unexpected argument"):
        cli.spell(shlex.split(line))


def test_flags_of_go_that_are_true_or_false_take_their_values():
    line = cli.spell(["-version=false", "-onetime=T", "-help=0", "--watch=FALSE"])
    assert (line.version, line.help, parse(line.flags)) == (False, False, {"onetime": "T", "watch": "FALSE"})
    assert cli.spell(["-version=true"]).version
    assert cli.spell(["--help=1"]).help
    with pytest.raises(UsageError, match="flag -version is not true or false: 'x'"):
        cli.spell(["-version=x"])


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_settings_file_that_is_a_resource_is_no_error(tmp_path):
    file = tmp_path / "nginx.toml"
    file.write_text('[template]\nsrc = "a"\ndest = "b"\nkeys = ["/"]\n')
    found, (warning,) = settings_of("-onetime -node a", file=str(file))
    assert (found.onetime, found.nodes) == (True, ("a",))
    assert warning.message == "the settings file holds no settings but a [template]"
    assert warning.hint == "it is a resource: all of conf.d is delivered, without -config-file"


def test_confds_one_settings_file_is_read_where_the_confdir_has_none(tmp_path, monkeypatch):
    old, own = tmp_path / "confd", tmp_path / "own"
    monkeypatch.setattr(sources, "CONFDIRS", ("/nowhere", str(old)))
    old.mkdir()
    own.mkdir()
    (old / "confd.toml").write_text("interval = 9\n")
    assert load_settings({"confdir": str(own)}, {})[0].interval == 9
    (own / "confd.toml").write_text("interval = 8\n")
    assert load_settings({"confdir": str(own)}, {})[0].interval == 8


@pytest.fixture
def load(tmp_path):
    """Loads the one resource of a confdir, with these lines more."""
    (tmp_path / "conf.d").mkdir()

    def loaded(lines, flags="", opens=None):
        (tmp_path / "conf.d" / "a.toml").write_text(f'[template]\nsrc = "a"\ndest = "/a"\nkeys = ["/k"]\n{lines}')
        return load_resources(str(tmp_path), settings_of(flags)[0], lambda path: (path,), opens=opens)

    return loaded


@pytest.mark.parametrize(
    ("flags", "lines", "strip"),
    [
        ("-prefix /prod", 'prefix = "/app"', "/prod"),
        ("-prefix ''", 'prefix = "/app"', "/app"),
        ("-prefix /prod -join-prefixes", 'prefix = "/app"', "/prod/app"),
        ("-prefix prod/ -join-prefixes", 'prefix = "app/"', "/prod/app"),
        ("-prefix /prod -join-prefixes", "", "/prod"),
        ("-join-prefixes", 'prefix = "/app"', "/app"),
        ("-prefix /prod", 'prefix = "/app"\njoin_prefixes = true', "/prod/app"),
        ("-prefix /prod -join-prefixes", 'prefix = "/app"\njoin_prefixes = false', "/prod"),
        ("etcd -prefix /prod", 'prefix = "/app"', "/prod/app"),
    ],
)
def test_prefixes_are_confds_or_the_forks(load, flags, lines, strip):
    (resource,) = load(lines, flags).resources
    assert resource.strip == strip
    assert [prefix.lstrip("/") for prefix in resource.prefixes] == [f"{strip}/k".lstrip("/")]


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ("-backend etcdv3", 'backend = "etcdv3"'),
        ("-backend etcdv3", 'backend = "etcd"'),
        ("etcd", 'backend = "etcd"\nscheme = "https"'),
        ("-backend etcd", 'backend = "etcd"'),
        ("-backend env", 'backend = "env"\nnodes = []'),
        ("-backend etcdv3 -node http://10.0.0.1:2379,10.0.0.2", 'backend = "etcd"\nnodes = ["10.0.0.2:2379"]'),
        ("-backend etcdv3 -node A", 'backend = "etcd"\nnode = "http://a:2379/"'),
        ("-backend consul", 'backend = "consul"\nnodes = ["localhost:8500"]'),
        ("-backend file -file /k/a.yaml -file /k/b", 'backend = "file"\nfile = ["/k/b", "/k/x/../a.yaml"]'),
        ("-backend env", 'nodes = ["a"]'),
    ],
)
def test_a_resource_may_name_the_store_that_confpy_runs_with(load, flags, lines):
    loaded = load(f"[backend]\n{lines}\n", flags)
    assert [resource.name for resource in loaded.resources] == ["a"]
    assert (loaded.all_errors, loaded.warnings) == ((), ())


@pytest.mark.parametrize(
    ("flags", "lines", "name", "address"),
    [
        ("-backend etcdv2", 'backend = "etcd"', "etcdv3", ()),
        ("-backend etcd", 'backend = "etcdv3"', "etcdv3", ()),
        ("-backend etcdv3 -node a", 'backend = "etcd"\nnodes = ["b"]', "etcdv3", ("b",)),
        ("-backend etcdv3 -node a", 'backend = "etcd"\nnodes = ["a:2378"]', "etcdv3", ("a:2378",)),
        ("-backend etcdv3 -srv-domain x", 'backend = "etcd"\nnodes = ["127.0.0.1"]', "etcdv3", ("127.0.0.1",)),
        ("-backend env", 'backend = "consul"\nnode = "c"\nauth_type = "x"', "consul", ("c",)),
        ("-backend file -file /a,/b", 'backend = "file"\nfile = "/a"', "file", ("/a",)),
    ],
)
def test_a_resource_may_have_a_store_of_its_own(load, flags, lines, name, address):
    opened = []

    def opens(settings):
        opened.append(settings)
        return "/[backend:1]", lambda path: (f"/[backend:1]{path}",)

    loaded = load(f"[backend]\n{lines}\n", flags, opens=opens)
    (resource,) = loaded.resources
    assert (resource.base, resource.prefixes[0].startswith("/[backend:1]/")) == ("/[backend:1]", True)
    (settings,) = opened
    assert (settings.backend, settings.files if name == "file" else settings.nodes) == (name, address)


@pytest.mark.parametrize(
    ("flags", "lines", "message"),
    [
        ("-backend env", 'backend = "vault"', "unknown store 'vault'"),
        ("-backend etcdv3", "backend = 7", "backend is not the name of a store: 7"),
        ("-backend etcdv3", 'backend = ["etcd"]', "backend is not the name of a store: a list"),
        ("-backend env", 'backend = "consul"', "the store consul of the resource has no nodes"),
        ("-backend env", 'backend = "consul"\nnodes = ["c"]\ndatacentre = "x"', "unknown setting datacentre"),
    ],
)
def test_a_store_of_a_resource_that_is_none_is_an_error_of_the_resource_alone(load, flags, lines, message):
    loaded = load(f"[backend]\n{lines}\n", flags)
    assert loaded.resources == ()
    assert loaded.all_errors[0].message == message


def test_what_logs_in_to_the_store_of_the_run_is_not_sent_to_that_of_a_resource(load):
    opened = []

    def opens(settings):
        opened.append(settings)
        return "/[backend:1]", lambda path: (f"/[backend:1]{path}",)

    flags = "-backend etcdv3 -node a -basic-auth -username me -password hunter2"
    load('[backend]\nbackend = "etcd"\nnodes = ["b"]\n', flags, opens=opens)
    assert (opened[0].username, opened[0].password, opened[0].basic_auth) == (None, None, False)


def test_nodes_that_are_no_addresses_are_refused_without_what_may_be_a_password(load):
    loaded = load('[backend]\nbackend = "etcd"\nnodes = ["http://me:secret@a"]\n', "-backend etcdv3 -node a")
    assert loaded.resources == ()
    assert "secret" not in str(loaded.all_errors[0])


def test_the_forks_keys_of_a_resource_mean_what_they_meant(load):
    (resource,) = load('debounce = "5s"\nmax_wait = "9s"\noutput_format = "yml"\n').resources
    assert (resource.settle, resource.max_wait, resource.output_format) == (5, 9, "yaml")


# --- whatever is said ------------------------------------------------------------------------------------------------

VALUES = [
    "",
    "0",
    "-1",
    "true",
    "false",
    "5s",
    "1e999",
    "http://[",
    "a:b:c",
    "localhost:99999",
    "\udc80",
    "ä",
    "=",
    ",",
]
WORD = strategies.one_of(
    strategies.sampled_from([*sorted(KNOWN), *dialect.SHORT, "h", "help", "version", "bogus"]).map(
        lambda flag: f"-{flag}"
    ),
    strategies.sampled_from([*dialect.STORES, *VALUES, *COMMANDS, "--", "-"]),
    strategies.text(strategies.characters(exclude_characters="\0/"), max_size=8),
)
ARGUMENT = WORD | strategies.tuples(WORD, strategies.sampled_from(VALUES)).map("=".join)


@example(["-h", "help", "env", "env"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(ARGUMENT, max_size=6))
def test_no_arguments_end_in_a_traceback(tmp_path, monkeypatch, arguments):
    def run(settings, warnings):
        store = open_store(settings.backend, settings)
        store.close()
        return 0

    def make_plan(settings, warnings, log):
        return types.SimpleNamespace(code=run(settings, warnings), planned={}, outcomes=[])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "confpy.daemon.plan", types.SimpleNamespace(make_plan=make_plan))
    monkeypatch.setitem(sys.modules, "confpy.daemon.daemon", types.SimpleNamespace(run=run))
    # A command that reads the store may find none, and one that asks a running confpy no answer.
    assert cli.main(arguments) in {0, 2, 3, 12}


# --- the manual ------------------------------------------------------------------------------------------------------

MANUAL = Path(__file__).parents[2] / "docs" / "migrating-from-confd.md"


def regenerated(text):
    """The manual with the table of words as it is."""
    lines = ["| confd, or its fork | Here | |", "|---|---|---|"]
    for (means, hint), words in groupby(WORDS, lambda word: (word.means, word.hint)):
        names = [name for word in words for name in (f"-{word.flag}", dialect.variable(word.name)) if name]
        meaning = " and ".join(f"`-{name.replace('_', '-')}`" for name in means) or "nothing"
        if means and hint:
            meaning += ", with a warning"
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {meaning} | {hint} |")
    return with_part(text, "words", "\n".join(lines))


def test_the_manual_shows_the_table_of_words():
    text = MANUAL.read_text()
    assert text == regenerated(text), "run: python -m tests.unit.test_confd_words"


if __name__ == "__main__":
    MANUAL.write_text(regenerated(MANUAL.read_text()))
