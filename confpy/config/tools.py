"""The variables of the stores' own tools, such as ``ETCDCTL_ENDPOINTS``."""

from __future__ import annotations

from collections.abc import Mapping

from confpy.config.settings import OPTIONS
from confpy.config.stores import STORES
from confpy.config.toml import EMPTY


def take_tools_variables(
    store: str, environ: Mapping[str, str], values: dict[str, object], origins: dict[str, str]
) -> None:
    """Add the values of the variables of the store's own tools, for settings that are not given otherwise."""
    kinds = {option.name: option.kind for option in OPTIONS}
    for group in STORES[store].variables if store in STORES else ():
        if any(variable.setting in values for variable in group):
            continue
        for variable in group:
            if environ.get(variable.name) and variable.setting not in values:
                origin = f"variable {variable.name}"
                kind = variable.kind or kinds[variable.setting]
                value = kind.read(environ[variable.name], origin, as_text=True)
                if value not in EMPTY:
                    values[variable.setting], origins[variable.setting] = value, origin
