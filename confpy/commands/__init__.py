"""The commands beside a run: one table, and one module each, which is loaded when the command is called.

A new command is a module here with ``run(call)``, and a row in ``COMMANDS``, from which its parsing and its help come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confpy.frozen import NOTHING
from confpy.log import Log

COMPLETE = "_CONFPY_COMPLETE"
"""The variable with which a shell asks for completions, named as all programs that use click have it."""


class Call(NamedTuple):
    """What a command is called with. Its module has ``run(call)``, which returns the exit code."""

    arguments: tuple[str, ...]
    flags: Mapping[str, str]
    """The flags that were given, as text by setting."""
    switches: frozenset[str]
    """The command's own flags that are true."""
    log: Log
    options: Mapping[str, str] = NOTHING
    """The command's own flags that have a value, with it."""
    program: tuple[str, ...] | None = None
    """The words after ``--`` or ``-exec``: a program with its arguments."""


class Flag(NamedTuple):
    """A flag of some commands, unknown to the others. Where it has the name of a setting, these commands read it."""

    name: str
    help: str
    metavar: str = ""
    """What stands for its value in the help; empty: it is true or false."""
    choices: tuple[str, ...] = ()
    """The values that it may have; empty: any."""
    repeats: bool = False
    """It may be given more than once: its values stand with NUL between them."""


class Command(NamedTuple):
    """What the command line and the help say of a command."""

    usage: str
    least: int
    most: int
    """How many arguments it takes."""
    needs: str
    """What the error says about any other number."""
    summary: str
    """What the general help says."""
    help: str = ""
    """What follows the usage in its own help; empty: it has none."""
    flags: tuple[Flag, ...] = ()
    """Its own flags."""
    takes_program: bool = False
    """Whether a program with its arguments may follow after ``--``."""


RUN_FLAGS = (
    Flag("template", "Render this template, and use no confdir. May be repeated.", "SRC:DEST[:RELOAD]", repeats=True),
    Flag(
        "key", "With -template: a key to read with all below it (default: all). May be repeated.", "KEY", repeats=True
    ),
)
"""Flags of a run that are no settings."""
DATA = Flag("data", "Take the keys from this file (YAML, JSON or TOML) instead of the store; -: from stdin.", "FILE")
VALUES = Flag("values", "Show the values of keys.")
JSON = Flag("json", "Print JSON.")
SERVICE = Flag("as-service", "Consul: a service of the agent; KEY is /SERVICE/ID, VALUE is HOST:PORT.")

COMMANDS: Mapping[str, Command] = {
    "accept": Command(
        "accept RESOURCE [flags]",
        1,
        1,
        "needs the name of one resource",
        "deliver what a held resource wants: after an undo, or if its keys are gone",
        """\
End the hold of a resource, so that what the store wants is delivered.

A resource is held after confpy undo, and if its keys have vanished (keys.suspect): then this confirms that they are
gone. A running confpy accepts it at once, a one-shot at its next run. Of a group one resource is enough.

\b
  confpy accept haproxy
  confpy accept haproxy -confdir /srv/confpy

-confdir and -state-dir must be those of the confpy that holds the resource. confpy help lists all flags.
""",
    ),
    "check": Command(
        "check [CONFDIR...] [flags]",
        0,
        1000,
        "takes confdirs",
        "find all mistakes in the files of a confdir",
        """\
Find all mistakes in the files of a confdir: settings, resources and templates. Nothing is delivered or changed.

Each mistake is one line: file, line, column, what is wrong and what to write instead. Unknown keys are errors here.
Without -host and -connect only the files of the confdir are read, and the result is the same on every machine. The exit
code is 2 if there is an error; warnings alone are 0.

\b
  confpy check
  confpy check /etc/confpy -host
  confpy check proxies/web proxies/api -format github
  confpy check -connect -backend etcdv3 -node http://10.0.0.1:2379
""",
        flags=(
            Flag("host", "Also look for the users, folders and programs that resources name on this machine."),
            Flag("connect", "Also ask each node of the store for the keys."),
            Flag(
                "format",
                "How mistakes are written; github: as annotations of a workflow.",
                "FORMAT",
                ("text", "github", "json"),
            ),
            Flag("json", "The same as -format json."),
        ),
    ),
    "deregister": Command(
        "deregister KEY [VALUE] [flags]",
        1,
        2,
        "needs a key, and at most its value",
        "remove a key from the store",
        """\
Remove a key from the store: with VALUE only if that is its value, which may be - for stdin.

\b
  confpy deregister /services/web/backends/web-1
  confpy deregister /services/web/backends/web-1 10.0.0.1:8080

A key that is not there is no failure.
""",
        flags=(Flag("value-file", "Take the value from this file; -: from stdin.", "FILE"), SERVICE),
    ),
    "diff": Command(
        "diff [flags]",
        0,
        0,
        "takes no arguments",
        "show what a delivery would change now, and change nothing",
        """\
Show what a delivery would change now, and change nothing.

The templates are rendered with the keys as they are, the candidates are checked, and the differences are shown as a
unified diff. A check that needs the file in its place (check_mode = "swap") is not run; the output says so. The content
of resources with sensitive = true is not shown.

The exit code is that of -noop: of what failed, else 0; with -exit-code 10 if something would change.

\b
  confpy diff -backend etcdv3 -node http://10.0.0.1:2379
  confpy diff -exit-code -confdir proxies/web -backend file -file keys.yaml
  confpy diff -json
""",
        flags=(
            Flag("exit-code", "Exit with 10 if something would change and nothing failed."),
            Flag("json", "Write a plan as JSON: each resource, what differs, and what would run."),
        ),
    ),
    "completion": Command(
        "completion bash|zsh|fish",
        1,
        1,
        "needs the name of one shell",
        "show the script with which a shell completes commands and flags",
        """\
Show the script with which a shell completes confpy's commands, flags, values and resources.

\b
  bash, in ~/.bashrc:                     eval "$(confpy completion bash)"
  zsh, in ~/.zshrc after compinit:        eval "$(confpy completion zsh)"
  fish, in ~/.config/fish/config.fish:    confpy completion fish | source

For all users, a package or an image writes it to a file once:

\b
  bash    /usr/share/bash-completion/completions/confpy
  zsh     /usr/share/zsh/vendor-completions/_confpy
  fish    /usr/share/fish/vendor_completions.d/confpy.fish
""",
    ),
    "convert": Command(
        "convert SRC [DEST] [-verify] [flags]",
        1,
        2,
        "needs what to convert, and at most where to",
        "convert Go templates (a file, a folder or a confdir) to Jinja",
        """\
Convert Go templates to Jinja.

SRC is a template, a templates folder or a whole confdir; it is not modified. The new templates are written to DEST, by
default beside the old ones; a confdir is written to DEST with its resources (/etc/confd by default to /etc/confpy). The
changes are shown as a diff; what could not be converted is reported on stderr, and the exit code is 4.

\b
  confpy convert web.cfg.tmpl
  confpy convert /etc/confd /srv/confpy
  confpy convert /etc/confd -verify -backend etcdv3 -node http://10.0.0.1:2379

-verify renders the old and the new templates with the keys of the store and compares the results; it takes the flags of
any run. confpy help lists them.
""",
        flags=(Flag("verify", "Render the old and the new templates with the store's keys and compare the results."),),
    ),
    "history": Command(
        "history [TARGET] [-json] [flags]",
        0,
        1,
        "takes one target",
        "show the last deliveries",
        """\
Show the last deliveries, the newest last: when, what triggered them, which keys had changed, the hashes of the old and
the new content, the check, the reload, and the seconds that the delivery took.

TARGET is the path of a target or the name of its resource; without it, all are shown.

\b
  confpy history
  confpy history /etc/haproxy/haproxy.cfg -json

-confdir and -state-dir must be those of the confpy that delivers. confpy help lists all flags.
""",
        flags=(JSON,),
    ),
    "help": Command(
        "help [COMMAND]", 0, 1, "is about one command, or all", "show this message, or the help of a command"
    ),
    "init": Command(
        "init haproxy|nginx|apache|k8s|compose|systemd DIR [flags]",
        2,
        2,
        "needs the name of a program or of a platform, and a folder",
        "write a resource, its template and tests to start from, or manifests",
        """\
Write a resource, its template and tests to start from; or what runs confpy with them on a platform.

haproxy, nginx, apache: DIR becomes a confdir with conf.d/PROGRAM.toml and its template: backends that are registered
below /services/web, in front of which the program stands. The tests are cases for confpy test.

k8s, compose, systemd: DIR gets the manifests of HAProxy with confpy beside it, or unit files, and the confdir; with
-name, -image, and the -backend, -node and -prefix of the store in them. A file that exists is never overwritten.

\b
  confpy init haproxy ./proxies
  confpy init nginx /etc/confpy
  confpy init k8s ./shop -name shop -image example/confpy:1 -node http://etcd.infra:2379 -prefix /production/shop
""",
        flags=(
            Flag("name", "The name of the service (default: web).", "NAME"),
            Flag("image", "The image of confpy; for systemd, the image of the service's containers.", "IMAGE"),
        ),
    ),
    "keys": Command(
        "keys [PREFIX] [-values] [-json] [flags]",
        0,
        1,
        "takes at most one prefix",
        "show the keys of the store as confpy sees them",
        """\
Show the keys of the store as confpy sees them.

Without PREFIX, these are the keys that the resources of the confdir read. Values are masked unless -values asks for
them. -json also names the resources that read each key.

\b
  confpy keys
  confpy keys /services/web -values -backend etcdv3 -node http://10.0.0.1:2379

It takes the flags of any run; confpy help lists them.
""",
        flags=(DATA, VALUES, JSON),
    ),
    "render": Command(
        "render RESOURCE|TEMPLATE [-data FILE] [-watch] [-values] [flags]",
        1,
        1,
        "needs one resource or template",
        "print what a template makes of the keys",
        """\
Print what a template makes of the keys.

RESOURCE is the name of a resource, its file in conf.d, or its target. TEMPLATE is a file; if a resource of its confdir
uses it, it is rendered with the keys and the prefix of that resource, else with all keys. The keys are those of the
store, or of a file: then no store is needed. Nothing is written but to stdout, and no command is run.

\b
  confpy render haproxy
  confpy render templates/haproxy.cfg.j2 -data keys.yaml
  confpy render templates/haproxy.cfg.j2 -data keys.yaml -watch

-watch renders again after each edit of the template, the resource, the file, or the keys in the store. An error names
the line and column of the template; the exit code is 4. A sensitive resource is rendered with -data or -values only. It
takes the flags of any run; confpy help lists them.
""",
        flags=(
            DATA,
            Flag("values", "Show the content of a sensitive resource, too."),
            Flag("watch", "Render again after each edit."),
        ),
    ),
    "register": Command(
        "register KEY [VALUE] [-ttl TIME] [-- COMMAND …]",
        1,
        2,
        "needs a key and its value",
        "put a key into the store, and keep it while a command runs and a check passes",
        """\
Put a key into the store, and keep it while a command runs and a check passes.

VALUE may be - for stdin. With -ttl the key is renewed, and the store removes it by itself when confpy is gone. At a
signal to stop, the key is removed first; after -drain, COMMAND gets the signal, and confpy exits with its code. Without
COMMAND, confpy keeps the key until it gets a signal; without -ttl, -check and COMMAND it puts the key and exits.

\b
  confpy register /services/web/backends/web-1 10.0.0.1:8080
  confpy register /services/web/backends/web-1 10.0.0.1:8080 -ttl 15s -- httpd -f
  confpy register /services/web/backends/web-1 10.0.0.1:8080 -ttl 15s -check-http http://127.0.0.1:8080/health

What another has put since is never renewed or removed. KEY is the whole key: -prefix is not put before it. The store is
that of any run: -backend, -node and the settings file.
""",
        flags=(
            Flag("ttl", "Have the store remove the key when it was not renewed for so long.", "TIME"),
            Flag("value-file", "Take the value from this file; -: from stdin.", "FILE"),
            Flag("check", "Keep the key while this shell command exits with 0.", "CMD"),
            Flag("check-http", "Keep the key while a GET is answered with 2xx or 3xx.", "URL"),
            Flag("check-tcp", "Keep the key while HOST:PORT accepts connections.", "ADDRESS"),
            Flag("check-interval", "How often to check (default: 5s).", "TIME"),
            Flag("check-timeout", "How long a check may take (default: 3s).", "TIME"),
            Flag("check-failures", "How many checks in a row fail before the key is removed (default: 2).", "COUNT"),
            Flag("drain", "How long COMMAND runs on after the key was removed (default: 5s).", "TIME"),
            SERVICE,
            Flag("tags", "With -as-service: its tags, separated by commas.", "NAMES"),
        ),
        takes_program=True,
    ),
    "reload": Command(
        "reload [-wait] [flags]",
        0,
        0,
        "takes no arguments",
        "have the running confpy read and look at everything again",
        """\
Have the running confpy read and look at everything again.

This is what SIGHUP does: it reads the resources and the store again, looks at every target, and tries again what waits
after a failure.

\b
  confpy reload
  confpy reload -wait -confdir /srv/confpy

-wait waits until everything was tried, for -timeout (60 s) at most, and says how it went. The exit code is that of what
fails, 2 to 7, as of a one-shot; 11 if it is not over in time; 12 if no confpy answers. As ExecReload= of a unit, it
makes systemctl reload fail when the new configuration does.
""",
        flags=(Flag("wait", "Wait until everything was tried, and say how it went."),),
    ),
    "status": Command(
        "status [-watch] [-diff] [-json] [flags]",
        0,
        0,
        "takes no arguments",
        "show how the running confpy is: what it waits for, and what fails",
        """\
Show how the running confpy is: one line a resource, a store and an owed reload.

It is asked over a socket that only root and the user that confpy runs as may use. Without -confdir, the only confpy
that runs is asked.

\b
  confpy status
  confpy status -watch
  confpy status -json -confdir /srv/confpy

The exit code is 0 if all is well, 11 if something is not, and 12 if no confpy answers.
""",
        flags=(
            Flag("watch", "Show it again each second; if stdout is no terminal, at each change."),
            Flag("diff", "Also show the last change of each target, as a diff."),
            JSON,
        ),
    ),
    "test": Command(
        "test DIR [-update] [-junit FILE] [flags]",
        1,
        1,
        "needs one folder with cases",
        "test templates: render cases and compare them with what is expected",
        """\
Test templates: render cases and compare them with what is expected.

Each file NAME.CASE.keys.yaml (or .yml, .json, .toml) below DIR is a case: the keys of a store. NAME is a resource, a
template or a target of the confdir that DIR lies in (or of -confdir). The result has to be that of NAME.CASE.expected;
if there is a NAME.CASE.error instead, the template has to fail with the text in it. No store is needed, and nothing is
delivered.

\b
  confpy test /etc/confpy/tests
  confpy test /etc/confpy/tests -update
  confpy test /etc/confpy/tests -junit report.xml

It prints one line for each case, and a diff for each that differs; then the exit code is 4.
""",
        flags=(
            Flag("update", "Write what is expected: the files are those that rendering gives now."),
            Flag("junit", "Write a JUnit report to this file, too.", "FILE"),
        ),
    ),
    "why": Command(
        "why KEY|TARGET[:LINE] [-values] [-json] [flags]",
        1,
        1,
        "needs a key or a target",
        "show what a key is used for, or what a file or a line of it comes from",
        """\
Show what a key is used for, or what a file or a line of it comes from.

TARGET is a file that confpy writes, or the name of its resource. The template is rendered again with the keys that the
store has now. For each line, confpy tells which keys it comes from, on which line and column of the template, at which
revision of the store, and which other keys decided on it. If the file on disk is not what rendering gives now, it says
so. For a KEY, it lists the resources that read it, and the lines that depend on it.

\b
  confpy why /etc/haproxy/haproxy.cfg:31
  confpy why haproxy
  confpy why /services/web/backends/a

Values are not shown; -values shows the line itself. It takes the flags of any run; confpy help lists them.
""",
        flags=(DATA, VALUES, JSON),
    ),
    "undo": Command(
        "undo TARGET [flags]",
        1,
        1,
        "needs the path of one target, or the name of its resource",
        "put back the file before the last delivery of a target, and hold it",
        """\
Put back the file before the last delivery of a target: it is checked, and its program reloaded, as with any delivery.
The resources of a group go back together. A second undo goes one further back.

From then on the resource is held, whatever the store wants, until confpy accept.

\b
  confpy undo /etc/haproxy/haproxy.cfg
  confpy accept haproxy

A running confpy does it, within -timeout; where none runs, this command does. confpy history shows what there is.
""",
    ),
    "version": Command(
        "version [-all] [-json]",
        0,
        0,
        "takes no arguments",
        "show the version",
        """\
Show the version.

\b
  confpy version
  confpy version -all
  confpy version -json

-all and -json also show how confpy was installed and from which commit it was built, Python, the platform and the
versions of the libraries: what a report of a bug needs.
""",
        flags=(Flag("all", "Also show how it was installed, Python, the platform and the libraries."), JSON),
    ),
}
