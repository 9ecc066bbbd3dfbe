"""Draw the folders of confpy and what each imports, as Mermaid, from the source.

`python scripts/draw_layers.py` writes the drawing between its markers in docs/architecture.md; a test holds it there.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by scripts/draw_layers.py -->\n", "<!-- end of the drawing -->\n"
EVERYWHERE = {"__init__", "errors", "clock", "frozen", "events"}
"""What nearly every module imports: arrows to it would show nothing."""


def layers(package: Path) -> dict[str, set[str]]:
    """Return folder or root module → those that it imports, wherever in it, and for types too."""
    found: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        if here not in EVERYWHERE:
            names = (name.split(".")[1] for name in imports(path) if name.startswith("confpy."))
            found.setdefault(here, set()).update(set(names) - EVERYWHERE - {here})
    return found


def imports(path: Path) -> Iterable[str]:
    """Yield the full names of the modules that a file imports; of a package, with what is taken from it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "confpy":
            yield from (f"confpy.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each arrow that a longer way stands for."""
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():  # raises CycleError, which names the circle
        direct = graph.get(name, set())
        below[name] = direct.union(*(below[other] for other in direct))
    return {
        name: {other for other in direct if not any(other in below[between] for between in direct)}
        for name, direct in graph.items()
    }


def drawing(package: Path) -> str:
    """Return the Mermaid source of the drawing, as a fenced block."""
    graph = reduced(layers(package))
    lines = ["```mermaid", "flowchart TD"]
    for name in sorted(graph):
        shape = f'{name}["{name}/"]' if (package / name).is_dir() else f'{name}("{name}.py")'
        lines.append(f"    {shape}")
    lines += [f"    {name} --> {other}" for name in sorted(graph) for other in sorted(graph[name])]
    return "\n".join([*lines, "```\n"])


def put(text: str, drawn: str) -> str:
    """Return a page's text with the drawing between its markers; raises ``ValueError`` where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has no place for the drawing")
    return before + BEGIN + drawn + END + after


def main() -> int:
    """Redraw the page."""
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), drawing(ROOT / "confpy")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
