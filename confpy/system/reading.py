"""Small files, read whole with as few system calls as it takes."""

from __future__ import annotations

import os


def read_up_to(descriptor: int, size: int, most: int) -> bytes:
    """Return the content of an open file; of a larger one than ``most`` bytes, one more than these. Raises ``OSError``.

    ``size`` is what the file is said to have: one that has more or less is read all the same.
    """
    content = os.read(descriptor, min(size, most) + 1)
    while len(content) <= most and (more := os.read(descriptor, min(len(content), most - len(content)) + 1)):
        content += more
    return content
