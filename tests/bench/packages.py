"""The size and the start-up of each way of installing: ``python -m tests.bench.packages`` writes docs/installing.md.

All are installed into one clean Debian, as root, and started in turns.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.e2e.packages import built
from tests.e2e.roots import Root, needs_roots
from tests.e2e.running import ROOT

PAGE = ROOT / "docs" / "installing.md"
TABLE = re.compile(r"(?<=<!-- measured by python -m tests\.bench\.packages -->\n).*?(?=<!-- end -->)", re.DOTALL)
ROUNDS = 15


class Way(NamedTuple):
    """A way of installing."""

    name: str
    package: str
    """The file, by a pattern."""
    install: str
    folders: str
    """Where it is then, with its libraries."""
    command: str
    more: str = ""
    """What it has fetched beside the package."""


WAYS = (
    Way(
        "wheel, in a virtual environment",
        "*.whl",
        "python3 -m venv /opt/wheel; /opt/wheel/bin/pip download --quiet --dest wheels ./*.whl; rm wheels/confpy-*; "
        "/opt/wheel/bin/pip install --quiet --no-index --find-links wheels ./*.whl",
        # Without pip and setuptools, which each virtual environment brings.
        "$(ls -d /opt/wheel/lib/python3.*/site-packages/* | grep -v -e /pip -e /setuptools -e _distutils -e /pkg_res)",
        "/opt/wheel/bin/confpy",
        more="wheels/*",
    ),
    Way("one file", "*.pyz", "install -m 0755 confpy.pyz /opt/", "/opt/confpy.pyz", "/opt/confpy.pyz"),
    Way("Debian package", "*.deb", "dpkg -i ./*.deb", "$(dpkg -L confpy | grep /usr/lib/confpy$)", "/usr/bin/confpy"),
)
TIMER = """
import json, os, sys
ways, rounds = json.loads(sys.argv[1]), int(sys.argv[2])
found = {name: [] for name in ways}
for _ in range(rounds + 1):
    for name, command in ways.items():
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, 2)])
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, name
        found[name].append(usage.ru_utime + usage.ru_stime)
print(json.dumps({name: all[1:] for name, all in found.items()}))
"""
"""The first round, which fills caches, does not count."""
CONFDIR = """
mkdir -p c/conf.d c/templates
printf '%s\\n' '[template]' 'src = "a.j2"' 'dest = "/root/a"' > c/conf.d/a.toml
echo text > c/templates/a.j2
"""


def measure(root: Root, packages: Path) -> list[tuple[str, float, float, float]]:
    """Return for each way: its name, MiB to download and installed, milliseconds of CPU of a one-shot."""
    for way in WAYS:
        (package,) = packages.glob(way.package)
        root.take(package)
    root.run(CONFDIR)
    installed = {}
    for way in WAYS:
        root.run(way.install, seconds=600)
        installed[way.name] = _mib(root, way.folders)
    (root.path / "root" / "timer.py").write_text(TIMER)
    flags = ["-onetime", "-backend", "env", "-confdir", "/root/c"]
    commands = {way.name: [way.command, *flags] for way in WAYS}
    (root.path / "root" / "ways.json").write_text(json.dumps(commands))
    took = json.loads(root.run(f'python3 timer.py "$(cat ways.json)" {ROUNDS}', seconds=600))
    return [
        (way.name, _mib(root, f"{way.package} {way.more}"), installed[way.name], 1000 * median(took[way.name]))
        for way in WAYS
    ]


def _mib(root: Root, files: str) -> float:
    return sum(map(int, re.findall(r"^\d+", root.run(f"du -sk {files}"), re.MULTILINE))) / 1024


def main() -> None:
    needs_roots()
    packages = built("wheel", "zipapp", "deb")
    with tempfile.TemporaryDirectory() as folder, Root(Path(folder)) as root:
        rows = measure(root, packages)
    lines = ["", "| | download, MiB | installed, MiB | a one-shot, ms of CPU |", "|---|---|---|---|"]
    lines += [f"| {name} | {size:.1f} | {installed:.1f} | {took:.0f} |" for name, size, installed, took in rows]
    text = "\n".join(lines) + "\n\n"
    sys.stdout.write(text)
    PAGE.write_text(TABLE.sub(lambda _: text, PAGE.read_text()))


if __name__ == "__main__":
    main()
