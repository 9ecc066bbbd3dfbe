"""One run: which programs are measured beside each other, how often, and with what patience."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.confdirs import PAIRS, Confdir, Content
from tests.bench.figures import Figures
from tests.bench.processes import BrokenError, Running, TooSlowError
from tests.bench.programs import BEFORE, Kind, Program
from tests.bench.stores import Store


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 3
    starts: int = 11
    """Rounds of what takes a fraction of a second."""
    few: int = 100
    many: int = 1000
    most: int = 10_000
    batches: int = 5
    changes: int = 20
    """In a batch."""
    consul_changes: int = 10
    limit: float = 90.0
    """Seconds that one run or start may take."""
    patience: float = 25.0
    """The same for the other checkout, which is measured to show a difference and not its size."""
    storm: int = 20_000
    idle: float = 60.0
    growth: int = 100_000
    keys: int = 100
    """Of each of many resources, where there are many keys."""
    key_steps: Sequence[int] = (1, 10, 100, 1000)
    servers: int = 5_000


QUICK = Sizes(
    rounds=1, starts=2, few=10, many=40, most=120, batches=1, changes=4, consul_changes=3, limit=60, patience=60,
    storm=2000, idle=2, growth=2000, keys=10, key_steps=(1,), servers=100,
)  # fmt: skip
FULL = Sizes(
    rounds=7, starts=31, batches=15, consul_changes=20, limit=600, patience=300, idle=300,
)  # fmt: skip


@dataclass
class Bench:
    """The programs, the sizes, and the figures so far."""

    programs: Sequence[Program]
    sizes: Sizes
    figures: Figures = field(default_factory=Figures)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="confpy-bench-")))
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def own(self) -> Program:
        """The confpy that all is about."""
        return self.programs[0]

    def of(self, *kinds: Kind) -> list[Program]:
        return [program for program in self.programs if program.kind in kinds]

    def confdir(self, program: Program, resources: int, keys: int, content: Content = PAIRS) -> Confdir:
        return Confdir(self.fresh(program.name), program, resources, keys, content)

    def fresh(self, name: str) -> Path:
        """Return the path of a folder that is not there yet."""
        return self.folder / f"{next(self._numbers):03}-{name}"

    def limit(self, program: Program) -> float:
        return self.sizes.patience if program.name == BEFORE else self.sizes.limit

    def attempt(self, program: Program, figures: Sequence[str], measure: Callable[[], Sequence[float]]) -> bool:
        """Add what ``measure`` returns, one sample a figure, or why it failed; do nothing where it failed before."""
        if any(self.figures.failed(figure, program.name) for figure in figures):
            return False
        with self.trying(program, figures):
            for figure, value in zip(figures, measure(), strict=True):
                self.figures.add(figure, program.name, value)
            return True
        return False

    @contextlib.contextmanager
    def trying(self, program: Program, figures: Sequence[str]) -> Iterator[None]:
        """Note where a block fails that measures these figures, and go on after it."""
        try:
            yield
        except TooSlowError as error:
            self.fail(program, figures, str(error), error.limit)
        except (BrokenError, OSError) as error:
            self.fail(program, figures, str(error))

    def fail(self, program: Program, figures: Sequence[str], why: str, limit: float = 0.0) -> None:
        say(f"    {program.name}: {why}")
        for figure in figures:
            # The time says nothing about the memory, and the processor time may be less or more.
            self.figures.fail(figure, program.name, why, limit if figure.endswith(".wall") else 0.0)

    def started(self, confdir: Confdir, store: Store, *more: str) -> Running:
        """Start a daemon."""
        return Running(confdir.follow(store, *more), confdir.environment(), confdir.folder)


BEGAN = time.monotonic()


def say(text: str) -> None:
    """Say on stderr what is going on."""
    sys.stderr.write(f"{time.monotonic() - BEGAN:6.0f} s  {text}\n")
    sys.stderr.flush()
