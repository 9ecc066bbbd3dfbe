"""Reads settings from flags, ``CONFPY_*`` and other variables, and a TOML file.

Flags override variables, variables override the file, and the file overrides the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import cast

from confpy.config import confd
from confpy.config.options import Option, Word
from confpy.config.settings import CACHE_DIR, CONFDIRS, FILES, MOUNTS, OPTIONS, STATE_DIR, Settings
from confpy.config.toml import EMPTY, mend, parse_toml, plain, read_text, suggest
from confpy.config.tools import take_tools_variables
from confpy.errors import ConfpyError, UsageError

Warnings = list[ConfpyError]
CHILD_VARIABLES = frozenset({"CONFPY_SRC", "CONFPY_DEST", "CONFPY_RESOURCE"})
"""Variables that confpy sets for commands, which may start another confpy: no settings."""


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Settings, Warnings]:
    """Return the settings, and warnings.

    ``flags`` has values by the name of a setting or of a word of confd's, as text, or with the type of a TOML value;
    ``store`` is the store that was named without a flag, as in confd's fork. An empty value counts as not given, except
    for ``prefix``. Raises ``UsageError`` if a value is invalid or a file cannot be read.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    warnings: Warnings = []
    called = cast("str", flags.get("store", ""))
    ignored = () if called else tuple(_variables_of_the_fork(environ))
    if ignored:
        environ = {name: value for name, value in environ.items() if name not in ignored}
    for option in OPTIONS:
        for value, origin in _given(option, flags, environ, warnings):
            values[option.name] = value
            origins[option.name] = origin
            break
    if called and not flags.get("backend"):
        values["backend"], origins["backend"] = confd.STORES[called], f"argument {called}"
    path = _settings_file(cast("str | None", values.get("config_file")), cast("str | None", values.get("confdir")))
    if path is not None and "config_file" in values and not os.path.exists(path):
        warnings.append(UsageError("the settings file does not exist: going on without it", file=path))
        path = None
    if path is not None:
        for name, value in _read_file(path, warnings).items():
            if name not in values:
                values[name] = value
                origins[name] = f"file {path}"
    warnings.extend(_ignored_words(flags, environ))
    warnings.extend(_stray_variables(environ))
    warnings.extend(_shown_secrets(origins))

    values.setdefault("confdir", default_confdir())
    values["config_file"] = path
    if MOUNTS not in values and flags.get(MOUNTS):
        values[MOUNTS] = flags[MOUNTS]  # read before
    take_tools_variables(str(values.get("backend", "etcd")), environ, values, origins)
    for name, variable, default, home, below in (
        ("cache_dir", "CACHE_DIRECTORY", CACHE_DIR, "XDG_CACHE_HOME", ".cache"),
        ("state_dir", "STATE_DIRECTORY", STATE_DIR, "XDG_STATE_HOME", ".local/state"),
    ):
        if name not in values:
            # systemd names several folders with colons between them.
            folder = environ.get(variable, "").partition(":")[0]
            values[name] = folder or _usable(default, environ, home, below)
            if folder:
                origins[name] = f"variable {variable}"
    if called:
        values = {**confd.IN_THE_FORK, **values}
    if values.get("client_insecure"):
        hint = "whoever is on the way to the store can change its answers: name its CA (client_ca_keys)"
        warnings.append(UsageError(f"{origins['client_insecure']}: any certificate is trusted", hint=hint))
    if MOUNTS in values:
        from confpy.config.mounts import settle_mounts  # most runs have one store

        values[MOUNTS] = settle_mounts(values, environ)
    # Every value was read by the kind of its field.
    settings = Settings(origins=origins, ignored_variables=ignored, **values)  # type: ignore[arg-type]
    return settings, warnings


def _given(
    option: Option, flags: Mapping[str, object], environ: Mapping[str, str], warnings: Warnings
) -> Iterator[tuple[object, str]]:
    """Yield the values that flags and variables give to a setting, the one that counts first."""
    for name, flag in ((option.name, option.flag), *((word.name, word.flag) for word in option.words)):
        value = flags.get(name)
        if value is not None and (value not in EMPTY or name == "prefix"):
            origin = f"flag -{flag}"
            yield option.kind.read(value, origin, as_text=True), origin
    for variable in option.variables:
        if environ.get(variable):
            origin = f"variable {variable}"
            try:
                yield option.kind.read(environ[variable], origin, as_text=True), origin
            except UsageError as error:
                if variable.startswith("CONFPY_"):
                    raise
                # confd itself does not read it: a script for confd may use it for anything.
                error.hint = "going on without it"
                warnings.append(error)


def _variables_of_the_fork(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that are set and are settings of confd's fork, but not of confd."""
    for name in sorted(confd.VARIABLES):
        variable = f"CONFD_{name.upper()}"
        if environ.get(variable) and variable not in confd.ALWAYS:
            yield variable


def _ignored_words(flags: Mapping[str, object], environ: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of flags and variables of confd's that have no meaning here, or a slightly different one."""
    for word in confd.WORDS:
        if word.hint and flags.get(word.name) is not None:
            yield _ignored(f"flag -{word.flag}", word)
        if word.hint and environ.get(variable := confd.variable(word.name)):
            yield _ignored(f"variable {variable}", word)


def _ignored(origin: str, word: Word, **where: str) -> UsageError:
    meaning = f"means {' and '.join(word.means)} here" if word.means else "has no meaning here, ignored"
    return UsageError(f"{origin} {meaning}", hint=word.hint, **where)


def _shown_secrets(origins: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of secrets that every user of the machine can read."""
    for option in OPTIONS:
        if option.kind.secret and origins.get(option.name, "").startswith("flag "):
            hint = f"give -{option.flag}-file or {option.variables[0]} instead"
            yield UsageError(
                f"flag -{option.flag}: everybody on this machine can see it in the list of processes", hint=hint
            )


def _usable(folder: str, environ: Mapping[str, str], home: str, below: str) -> str:
    """Return the system's folder, or the user's own if confpy does not run as root and may not write to the system's.

    ``home`` is the variable of the XDG base directory specification that names the user's, ``below`` its default in the
    home directory. A user without a home directory gets the system's folder, and a warning later.
    """
    if os.geteuid() == 0 or os.access(folder, os.W_OK | os.X_OK):
        return folder
    for base in (environ.get(home, ""), os.path.join(environ.get("HOME", ""), below)):
        if os.path.isabs(base) and base != f"/{below}":
            return os.path.join(base, "confpy")
    return folder


def default_confdir() -> str:
    """Return the confdir that is used if none is named."""
    return next((folder for folder in CONFDIRS if os.path.isdir(folder)), CONFDIRS[-1])


def _settings_file(named: str | None, confdir: str | None) -> str | None:
    """Return the file that was named, else the confdir's, else confd's only one."""
    if named:
        return named
    paths = [os.path.join(confdir or default_confdir(), name) for name in FILES]
    return next((path for path in (*paths, os.path.join(CONFDIRS[-1], FILES[-1])) if os.path.lexists(path)), None)


def _read_file(path: str, warnings: Warnings) -> dict[str, object]:
    return read_tables(parse_toml(read_text(path), path), path, warnings)


def read_tables(tables: Mapping[str, object], path: str, warnings: Warnings) -> dict[str, object]:
    """Return the settings of a file's tables by their names, and add warnings; raises ``UsageError``."""
    known = {plain(key): option for option in OPTIONS for key in option.keys}
    words = {plain(word.name): word for word in confd.WORDS}
    values: dict[str, object] = {}
    implied: dict[str, object] = {}
    for key, value in tables.items():
        option, word = known.get(plain(key)), words.get(plain(key))
        if isinstance(value, dict) and plain(key) == MOUNTS:
            from confpy.config.mounts import read_mounts

            values[MOUNTS] = read_mounts(value, path, warnings)
        elif isinstance(value, dict):
            warnings.append(_ignored_table(key, path))
        elif option is not None:
            if value not in EMPTY or option.name == "prefix":
                values[option.name] = option.kind.read(value, key, file=path, key=key)
        elif word is not None:
            if word.hint:
                warnings.append(_ignored(key, word, file=path, key=key))
            for option in OPTIONS:
                if word in option.words and value not in EMPTY:
                    implied[option.name] = option.kind.read(value, key, file=path, key=key)
        else:
            hint = mend(key, (option.keys[0] for option in known.values()))
            warnings.append(UsageError(f"unknown setting {key}, ignored", hint=hint, file=path, key=key))
    return implied | values


def _ignored_table(key: str, path: str) -> UsageError:
    """Return why a table of the settings file is ignored; confd's old tutorials pass a resource as that file."""
    if plain(key) == "template":
        hint = "it is a resource: all of conf.d is delivered, without -config-file"
        return UsageError("the settings file holds no settings but a [template]", hint=hint, file=path, key=key)
    hint = "write settings above all tables"
    return UsageError(f"the table [{key}] holds no settings, ignored", hint=hint, file=path, key=key)


_OF_KUBERNETES = ("CONFPY_PORT", "CONFPY_SERVICE_HOST", "CONFPY_SERVICE_PORT")
"""How the variables begin that Kubernetes sets for a service that is called confpy."""


def _stray_variables(environ: Mapping[str, str]) -> Iterator[ConfpyError]:
    """Warn of variables that look like a mistyped setting, not of others."""
    known = {variable for option in OPTIONS for variable in option.variables}
    stray = sorted(name for name in environ if name.startswith("CONFPY_") and name not in known | CHILD_VARIABLES)
    for name in stray:
        if name.startswith(_OF_KUBERNETES):
            continue
        meant = suggest(name.removeprefix("CONFPY_"), (variable.removeprefix("CONFPY_") for variable in known))
        if meant:
            yield UsageError(f"unknown variable {name}, ignored", hint=f"did you mean CONFPY_{meant}?")
