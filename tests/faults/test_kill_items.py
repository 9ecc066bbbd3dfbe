"""A delivery of items (``for_each``) is killed after each of its system calls: no file of anyone else is touched.

Some are new, some change, some are removed; their check is in place, and may have to halve them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from confpy.system.disk import Disk
from confpy.target.sweep import sweep
from tests.faults.stepping import killed_after
from tests.unit.test_item_deliveries import Sites
from tests.waiting import wait_until

BEFORE = {"changed": "1", "gone": "1", "same": "1"}
WANTED = {"changed": "2", "gone": None, "new": "1", "same": "1"}
AFTER = {"changed": "2", "new": "1", "same": "1"}
THEIRS = {"theirs": "theirs"}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: a kill does not ask what was synced, and there are many."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as made:
        yield Path(made)


class Story:
    """Items that were delivered once, and are to be so again."""

    def __init__(self, folder: Path, bad: str, **more: object) -> None:
        folder.mkdir()
        self.sites = Sites(folder, **more)
        self.wanted: dict[str, str | None] = {**WANTED, **({bad: "bad"} if bad else {})}
        self.after = {**AFTER, **({bad: BEFORE[bad]} if bad in BEFORE else {})}
        self.sites.put(**BEFORE)
        self.sites.ledger.clear("reload", [1])
        self.sites.ledger.close()
        (self.sites.folder / "theirs.conf").write_text("theirs")

    def run(self) -> None:
        """One confpy from start to end."""
        sites = self.sites
        sites.open()
        owned = {one.item: one for one in sites.recovered.owned}
        wanted = {name: text for name, text in self.wanted.items() if text is not None or name in owned}
        sites.deliver(*(sites.group(name, text, owned.get(name)) for name, text in wanted.items()))

    def after_a_kill(self) -> None:
        sites = self.sites
        wait_until(self.is_let_go, what="the ledger of the dead is free")
        sites.open()
        found = {name: text for name, text in sites.files().items() if not name.startswith(".")}
        assert found.pop("theirs") == "theirs"
        owned = {one.item: one.digest for one in sites.recovered.owned}
        assert owned.keys() == found.keys(), "what is there is not what is ours"
        torn = {name: text for name, text in found.items() if text not in (BEFORE.get(name), self.after.get(name))}
        assert torn == {}
        sites.ledger.close()
        self.run()
        sites.ledger.clear("reload", range(1, 9))
        assert sites.owned.keys() == self.after.keys()
        # Closed: a check that is started has to close what is open, and makes more calls for that each time.
        sites.ledger.close()
        wait_until(lambda: self.swept() == {**self.after, **THEIRS}, what="nothing lies about")

    def swept(self) -> dict[str, str]:
        sweep((str(self.sites.folder / "{{ name }}.conf"),), Disk())
        return self.sites.files()

    def is_let_go(self) -> bool:
        """Say whether no process holds a ledger."""
        disk = Disk()
        descriptors = [disk.adopt(str(path)) for path in self.sites.state.glob("ledger-*")]
        for descriptor in descriptors:
            if descriptor is not None:
                disk.close(descriptor)
        return None not in descriptors


SWAP = {"check_cmd": "! grep -q bad {folder}/sites/*.conf", "check_mode": "swap"}
STORIES = {
    "with a check in place": (SWAP, "", 1),
    "in one step each": ({}, "", 9),
    "with one that the check rejects": (SWAP, "changed", 29),
    "with a way back": ({"on_reload_failure": "rollback"}, "", 9),
}
"""Options, the item that the check rejects, and how many calls lie between two kills."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES)
def test_a_kill_after_a_system_call_leaves_each_item_old_or_new_and_the_files_of_others_alone(
    memory, story, record_property
):
    options, bad, step = STORIES[story]
    calls = 1 - step
    while True:
        calls += step
        folder = memory / str(calls)
        more = {name: one.replace("{folder}", str(folder)) for name, one in options.items()}
        one = Story(folder, bad, **more)
        killed = killed_after(calls, one.run)
        try:
            one.after_a_kill()
        except AssertionError as error:
            raise AssertionError(f"after system call {calls}: {error}") from error
        shutil.rmtree(folder)
        if not killed:
            break
    record_property("crash points", (story, calls - 1))
    assert calls > 60, "the kills did not fall into the delivery"
