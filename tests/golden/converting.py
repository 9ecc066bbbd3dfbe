"""A confpy that converts its confdir first: run as a command by the vectors that need one."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout

from confpy import cli


def main() -> int:
    arguments = sys.argv[1:]
    place = arguments.index("-confdir") + 1
    old, new = arguments[place], arguments[place] + "-converted"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        code = cli.main(["convert", old, new])
    return code or cli.main([*arguments[:place], new, *arguments[place + 1 :]])


if __name__ == "__main__":
    sys.exit(main())
