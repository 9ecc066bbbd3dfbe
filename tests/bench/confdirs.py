"""Confdirs with many resources, in the words of each program: the same files come of them, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import BrokenError
from tests.bench.programs import Program
from tests.bench.stores import Store


@dataclass(frozen=True, slots=True)
class Content:
    """What the targets hold: the same in the language of each program, and what a key becomes in it."""

    templates: Mapping[str, str]
    """Kind of program → template; ``NAME`` is the resource, ``ROOT`` the folder of the program's keys."""
    value: Callable[[str], str]
    """Mark → the value of a key that shows it in the target."""
    line: Callable[[str, str], str]
    """Key, mark → its line."""


PAIRS = Content(
    {
        "confpy": '# NAME\n{% for key, value in gets("/svc/NAME/*") %}{{ key }}={{ value }}\n{% endfor %}',
        "confd": '# NAME\n{{range gets "/svc/NAME/*"}}{{.Key}}={{.Value}}\n{{end}}',
        "consul-template": '# NAME\n{{range ls "ROOT/svc/NAME"}}/svc/NAME/{{.Key}}={{.Value}}\n{{end}}',
    },
    value=lambda mark: mark,
    line=lambda key, mark: f"{key}={mark}\n",
)
"""A line for each key. Each resource has a template of its own, as real ones have; none is equal to another."""
SERVERS = Content(
    {
        "confpy": (
            '# NAME\nbackend web\n{% for key, value in gets("/svc/NAME/*") %}{% set server = json(value) %}'
            "    server {{ base(key) }} {{ server.host }}:{{ server.port }} weight {{ server.weight }} check\n"
            "{% endfor %}"
        ),
        "confd": (
            '# NAME\nbackend web\n{{range gets "/svc/NAME/*"}}{{$server := json .Value}}'
            "    server {{base .Key}} {{$server.host}}:{{$server.port}} weight {{$server.weight}} check\n{{end}}"
        ),
    },
    value=lambda mark: json.dumps({"host": mark, "port": 8080, "weight": 10, "zone": "a", "up": True}),
    line=lambda key, mark: f"    server {key.rpartition('/')[2]} {mark}:8080 weight 10 check\n",
)
"""A backend of HAProxy, of one server for each key, whose value is JSON."""


class Confdir:
    """``resources`` of ``keys`` each, for one program, under a root of its own: programs run side by side."""

    def __init__(self, folder: Path, program: Program, resources: int, keys: int, content: Content = PAIRS) -> None:
        self.folder = folder
        self.program = program
        self.resources = resources
        self.keys = keys
        self.content = content
        self.root = f"x{program.name.replace('-', '')}"
        """No variable of the environment store begins as those of settings do."""
        for part in ("conf.d", "templates", "out", "state", "cache"):
            (folder / part).mkdir(parents=True, mode=0o700)
        end = ".j2" if program.kind == "confpy" else ".tmpl"
        blocks, template = [], content.templates[program.kind]
        for number in range(resources):
            name = self.name(number)
            source = folder / "templates" / f"{name}{end}"
            source.write_text(template.replace("NAME", name).replace("ROOT", self.root))
            if program.kind == "consul-template":
                blocks.append(f'template {{\n  source = "{source}"\n  destination = "{self.target(number)}"\n}}\n')
            else:
                (folder / "conf.d" / f"{name}.toml").write_text(
                    f'[template]\nsrc = "{source.name}"\ndest = "{self.target(number)}"\nkeys = ["/svc/{name}"]\n'
                )
        if blocks:
            (folder / "config.hcl").write_text("".join(blocks))

    @staticmethod
    def name(number: int) -> str:
        return f"{number:05}"

    def target(self, number: int) -> Path:
        return self.folder / "out" / self.name(number)

    def key(self, number: int, key: int) -> str:
        """Return the full name of a key in etcd; in Consul it lacks the leading slash."""
        return f"/{self.root}/svc/{self.name(number)}/{key:04}"

    def all_keys(self) -> dict[str, str]:
        value = self.content.value("1")
        return {self.key(number, key): value for number in range(self.resources) for key in range(self.keys)}

    # --- how the program is run --------------------------------------------------------------------------------------

    def once(self, store: Store) -> list[str]:
        if self.program.kind == "consul-template":
            return [*self.program.command, *self._consul_template(store), "-once"]
        return [*self.program.command, "-onetime", *self._flags(store)]

    def follow(self, store: Store, *more: str) -> list[str]:
        """Return the command of the daemon; ``more`` are flags of confpy alone."""
        if self.program.kind == "consul-template":
            return [*self.program.command, *self._consul_template(store)]
        own = more if self.program.kind == "confpy" else ()
        return [*self.program.command, "-watch", *self._flags(store), *own]

    def _flags(self, store: Store) -> list[str]:
        confd_on_consul = (self.program.kind, store.backend) == ("confd", "consul")
        address = store.node.removeprefix("http://") if confd_on_consul else store.node
        node = ["-node", address] if address else []
        return ["-backend", store.backend, *node, "-confdir", str(self.folder), "-prefix", f"/{self.root}"]

    def _consul_template(self, store: Store) -> list[str]:
        return ["-consul-addr", store.node.removeprefix("http://"), "-config", str(self.folder / "config.hcl")]

    def environment(self) -> dict[str, str]:
        return self.program.environment(self.folder)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def forget(self, *parts: str) -> None:
        """Empty ``out``, ``state`` or ``cache``."""
        for part in parts:
            shutil.rmtree(self.folder / part)
            (self.folder / part).mkdir(mode=0o700)

    def count(self) -> int:
        """Return how many targets there are."""
        return sum(not path.name.startswith(".") for path in (self.folder / "out").iterdir())

    def complete(self) -> bool:
        return self.count() >= self.resources

    def expected(self, number: int, changed: Mapping[str, str] | None = None) -> str:
        """Return what a target has to be; ``changed`` are the marks of keys that are not as in the beginning."""
        keys = [self.key(number, key) for key in range(self.keys)]
        begin = "" if self.content is PAIRS else "backend web\n"
        lines = [self.content.line(key.removeprefix(f"/{self.root}"), (changed or {}).get(key, "1")) for key in keys]
        return f"# {self.name(number)}\n{begin}{''.join(lines)}"

    def is_final(self, number: int, changed: Mapping[str, str] | None = None) -> bool:
        try:
            return self.target(number).read_text() == self.expected(number, changed)
        except FileNotFoundError:
            return False

    def check(self, changed: Mapping[str, str] | None = None) -> None:
        """Raise ``BrokenError`` where a target is not what it has to be."""
        wrong = [number for number in range(self.resources) if not self.is_final(number, changed)]
        if wrong:
            raise BrokenError(f"{self.program.name}: {len(wrong)} wrong files, the first is {self.target(wrong[0])}")
