"""Renders of Go templates beside those in Jinja, and how templates are loaded."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Compiled, World
from tests.bench.bench import Bench, say
from tests.rendering import resource, view_of

BOTH = {
    "a backend of HAProxy": (
        """\
backend web
    balance {{getv "/balance" "roundrobin"}}
{{range gets "/backends/*"}}    server {{base .Key}} {{.Value}} check
{{end}}""",
        """\
backend web
    balance {{ getv("/balance", "roundrobin") }}
{% for key, value in gets("/backends/*") %}    server {{ base(key) }} {{ value }} check
{% endfor %}""",
    ),
    "leaves of JSON": (
        """\
{{range gets "/leaves/*"}}{{$leaf := json .Value}}{{if $leaf.up}}server {{base .Key}} {{$leaf.ip}}:{{$leaf.port}}
{{end}}{{end}}""",
        """\
{% for key, value in gets("/leaves/*") %}{% set leaf = json(value) %}\
{% if leaf.up %}server {{ base(key) }} {{ leaf.ip }}:{{ leaf.port }}
{% endif %}{% endfor %}""",
    ),
    "getv in ls in lsdir": (
        """\
{{range $service := lsdir "/services"}}upstream {{$service}} {
{{range $name := ls (printf "/services/%s" $service)}}\
    server {{getv (printf "/services/%s/%s" $service $name)}}; # {{$name}}
{{end}}}
{{end}}""",
        """\
{% for service in lsdir("/services") %}upstream {{ service }} {
{% for name in ls("/services/" ~ service) %}\
    server {{ getv("/services/" ~ service ~ "/" ~ name) }}; # {{ name }}
{% endfor %}}
{% endfor %}""",
    ),
    "choices among texts": (
        """\
{{range $i, $pair := gets "/backends/*"}}{{$parts := split $pair.Value ":"}}{{if eq (index $parts 1) "8081"}}\
{{$i}} {{toUpper (base $pair.Key)}} {{index $parts 0}} tls
{{else}}{{$i}} {{base $pair.Key}} {{index $parts 0}}
{{end}}{{end}}""",
        """\
{% for key, value in gets("/backends/*") %}{% set parts = split(value, ":") %}{% if parts[1] == "8081" %}\
{{ loop.index0 }} {{ base(key)|upper }} {{ parts[0] }} tls
{% else %}{{ loop.index0 }} {{ base(key) }} {{ parts[0] }}
{% endif %}{% endfor %}""",
    ),
}
"""What is made → the template in Go's language, and in Jinja as a person would write it."""
KEYS = {
    "/balance": "leastconn",
    **{f"/backends/b{number:02}": f"10.0.0.{number}:{8080 + number % 2}" for number in range(50)},
    **{
        f"/leaves/l{number:02}": json.dumps({"ip": f"10.0.1.{number}", "port": 80, "up": number % 5 > 0})
        for number in range(50)
    },
    **{f"/services/s{number:02}/{name}": f"10.0.2.{number}:80" for number in range(10) for name in "abcde"},
}


def measure_templates(bench: Bench) -> None:
    """Measure renders of Go templates beside those in Jinja, in turns, and the load of many."""
    turns, templates = bench.sizes.changes * 20, bench.sizes.many
    say("templates")
    folder = bench.fresh("templates")
    folder.mkdir(mode=0o700)
    renderer, resolver, view = Renderer(), Resolver(folder=str(folder), cache_dir=None), view_of(KEYS)

    def render(name: str, engine: Literal["go", "jinja"], text: str) -> Callable[[], bytes]:
        (folder / name).write_text(text)
        lookup = Lookup("template", name, engine)
        world = World(0.0, {}, {lookup: resolver.resolve(lookup)})
        return lambda: renderer.render(resource(name, engine), view, world).content

    for number, (made, (go, jinja)) in enumerate(BOTH.items()):
        both = render(f"{number}.tmpl", "go", go), render(f"{number}.j2", "jinja", jinja)
        assert both[0]() == both[1](), f"{made}: the two differ"
        found: tuple[list[float], list[float]] = [], []
        for _ in range(turns):
            for run, times in zip(both, found, strict=True):
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
        figure = f"template.{slug(made)}.wall"
        bench.figures.add(figure, bench.own.name, statistics.median(found[0]))
        bench.figures.add(figure, "jinja", statistics.median(found[1]))
    measure_cache(bench, folder, templates)


def slug(made: str) -> str:
    return made.lower().replace(" ", "-")


def measure_cache(bench: Bench, folder: Path, number: int) -> None:
    """Measure how long a resolver takes for ``number`` Go templates: into an empty cache, and from it."""
    lookups = [Lookup("template", f"{one:04}.tmpl", "go") for one in range(number)]
    texts = [go for go, _ in BOTH.values()]
    for one, lookup in enumerate(lookups):
        (folder / lookup.name).write_text(f"# {one}\n{texts[one % len(texts)]}")
    for turn in range(max(3, bench.sizes.rounds)):
        began = time.perf_counter()
        fresh = Resolver(folder=str(folder), cache_dir=str(folder / "cache"))
        answers = [answer for some in fresh.resolve_all(lookups) for answer in some.values()]
        took = time.perf_counter() - began
        assert sum(isinstance(answer, Compiled) for answer in answers) == number, "not all were read"
        bench.figures.add(f"template-cache.{'warm' if turn else 'cold'}.wall", bench.own.name, took)
