"""The allocator and the collector of a daemon: ``confpy.system.memory``."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

ALL = "from confpy.system import memory; memory.prepare(); memory.settle()"


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)


def test_what_there_is_when_a_daemon_starts_and_after_its_first_pass_is_not_scanned():
    code = f"import gc; gc.disable(); made = [[] for _ in range(1000)]; {ALL}"
    enabled, frozen = run(f"{code}; print(gc.isenabled(), gc.get_freeze_count())").stdout.split()
    assert enabled == "True"
    assert int(frozen) > 1000


def test_garbage_is_collected_while_a_daemon_starts_and_as_python_does_it_afterwards():
    code = "import gc; gc.disable(); memory.prepare(); first = gc.isenabled(), gc.get_threshold()[0] < 1_000_000"
    after = f"from confpy.system import memory; {code}; memory.settle(); print(*first, *gc.get_threshold())"
    assert run(after).stdout.split() == ["True", "True", *map(str, gc.get_threshold())]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_large_block_that_is_freed_is_given_back():
    code = f"""
{ALL}
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
for size in (1 << 20, 16 << 20, 24 << 20):  # each would raise what glibc holds
    block = bytearray(b"x") * size
    del block
lists = [bytearray(b"x") * (1 << 18) for _ in range(100)]
end = bytearray(b"x") * (1 << 18)
del lists
print(resident() - before)
"""
    assert int(run(code).stdout) < 4 << 20


@pytest.mark.parametrize("missing", ["sys.modules['ctypes'] = None", "import ctypes; ctypes.CDLL = lambda _: object()"])
def test_where_the_c_library_cannot_be_called_or_is_another_nothing_happens(missing):
    done = run(f"import sys; {missing}; {ALL}; print('done')")
    assert (done.stdout, done.stderr) == ("done\n", "")
