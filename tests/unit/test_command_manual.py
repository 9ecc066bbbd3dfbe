"""docs/command-line.md is made from the table of commands.

``python -m tests.unit.test_command_manual`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from confpy.commands import COMMANDS
from tests.generated import with_part

MANUAL = Path(__file__).parents[2] / "docs" / "command-line.md"


def listed():
    lines = ["| Command | What it does |", "|---|---|"]
    lines += [f"| [`confpy {name}`](#{name}) | {command.summary} |" for name, command in sorted(COMMANDS.items())]
    for name, command in sorted(COMMANDS.items()):
        about = command.help.replace("\b\n", "").strip() or f"{command.summary[:1].upper()}{command.summary[1:]}."
        lines += ["", f"## {name}", "", "```text", f"confpy {command.usage}", "", about]
        if command.flags:
            lines.append("")
        for flag in command.flags:
            lines.append(f"  -{flag.name}{f' {flag.metavar}' if flag.metavar else ''}: {flag.help}")
            if flag.choices:
                lines[-1] += f" ({', '.join(flag.choices)})"
        lines.append("```")
    return "\n".join(lines)


def test_the_manual_has_the_table_of_commands():
    text = MANUAL.read_text(encoding="utf-8")
    assert text == with_part(text, "commands", listed()), "run: python -m tests.unit.test_command_manual"


if __name__ == "__main__":
    MANUAL.write_text(with_part(MANUAL.read_text(encoding="utf-8"), "commands", listed()), encoding="utf-8")
