"""Which deliveries form a batch, since they share a command, and which batches are under way. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from confpy.candidates import Group
from confpy.config.resource import Resource, check_in_place
from confpy.frozen import frozen
from confpy.messages import Deliver

Item = TypeVar("Item")
AT_ONCE = 32
"""Deliveries that run beside each other; more wait for a worker."""


@frozen
class Batch:
    """Groups that are delivered together."""

    groups: tuple[Group, ...]
    commands: frozenset[str]
    """What ties them together: nothing else uses these meanwhile."""
    swaps: bool
    """Some of its files are in place before they are checked."""


class Batches:
    """Those that are under way, and those that wait for a worker."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        """The commands of all of them."""
        self._swapped: set[str] = set()
        """Of these, the commands of those that put files in place before they are checked."""
        self._freed: list[str] = []
        self._all: dict[int, Batch] = {}
        self._in_flight: set[int] = set()
        self._waiting: deque[int] = deque()
        self._number = 0

    def __bool__(self) -> bool:
        """Say whether a delivery is under way."""
        return bool(self._in_flight)

    def add(self, batch: Batch) -> None:
        self._number += 1
        self._all[self._number] = batch
        self._waiting.append(self._number)
        self.busy |= batch.commands
        if batch.swaps:
            self._swapped |= batch.commands

    def send(self) -> Iterator[Deliver]:
        """Yield what may start now."""
        while self._waiting and len(self._in_flight) < AT_ONCE:
            number = self._waiting.popleft()
            self._in_flight.add(number)
            yield Deliver(number, self._all[number].groups)

    def end(self, number: int) -> Batch:
        """Take one out that has been delivered."""
        self._in_flight.discard(number)
        batch = self._all.pop(number)
        self.busy -= batch.commands
        self._swapped -= batch.commands
        self._freed += batch.commands
        return batch

    def take_freed(self) -> list[str]:
        """Return the commands that have become free since this was asked last."""
        freed, self._freed = self._freed, []
        return freed

    def drop_waiting(self) -> None:
        while self._waiting:
            self.end(self._waiting.popleft())

    def swapped_unchecked(self) -> set[str]:
        """Return the commands of those that put files in place before they are checked."""
        return self._swapped


def batches(items: Sequence[tuple[Item, Sequence[str]]]) -> list[list[Item]]:
    """Put items, each with its commands, into batches of which no two share a command; the order stays."""
    found: list[list[tuple[Item, Sequence[str]]]] = []
    home: dict[str, int] = {}
    for pair in items:
        # One whose check is one batch's and whose reload is another's ties the two together.
        joined = sorted({home[command] for command in pair[1] if command in home}) or [len(found)]
        first = joined[0]
        if first == len(found):
            found.append([])
        for other in joined[1:]:
            for _, commands in found[other]:
                home.update(dict.fromkeys(commands, first))
            found[first] += found[other]
            found[other] = []
        found[first].append(pair)
        home.update(dict.fromkeys(pair[1], first))
    return [[item for item, _ in batch] for batch in found if batch]


def checks_in_place(resources: Iterable[Resource]) -> tuple[str, ...]:
    """Return the checks that the resources of a group run over files in their places.

    Groups that share one are swapped in together (``batches`` of these): each may need the new files of the others,
    so that none of them would pass alone.
    """
    return tuple({check: None for resource in resources if (check := check_in_place(resource))})
