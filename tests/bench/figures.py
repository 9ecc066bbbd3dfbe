"""What was measured: samples by figure and subject, and what follows from them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FLOOR = "floor"
"""The subject that does the least that the work takes: a bare start of Python, a bare reader of the stream."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure of one subject: the median, quartiles and extremes of its samples, or why there are none."""

    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    least: float = 0.0
    most: float = 0.0
    samples: int = 0
    failed: str = ""
    limit: float = 0.0
    """Of a figure that took too long: the seconds that it was given."""

    def as_json(self) -> dict[str, Any]:
        if self.failed:
            return {"failed": self.failed, "limit": self.limit}
        numbers = {name: float(f"{getattr(self, name):.6g}") for name in ("median", "low", "high", "least", "most")}
        return {**numbers, "samples": self.samples}


def summary(samples: Sequence[float]) -> Summary:
    """Return the summary of samples, of which there is one at least."""
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    return Summary(statistics.median(samples), low, high, min(samples), max(samples), len(samples))


@dataclass(slots=True)
class Figures:
    """Figure (``once.etcd.1000x20.cpu``) → subject (``confd``) → samples: seconds, bytes, or numbers of something."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, dict[str, Summary]] = field(default_factory=dict)
    loaded: dict[str, dict[str, Summary]] = field(default_factory=dict)
    """Those of an earlier run, of which the samples are not known any more."""

    @classmethod
    def load(cls, data: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figures:
        """Return what ``as_json`` was made of, without the samples."""
        return cls(
            loaded={
                figure: {subject: Summary(**found) for subject, found in subjects.items()}
                for figure, subjects in data.items()
            }
        )

    def add(self, figure: str, subject: str, *values: float) -> None:
        self.samples.setdefault(figure, {}).setdefault(subject, []).extend(values)

    def fail(self, figure: str, subject: str, why: str, limit: float = 0.0) -> None:
        """Note why the subject has no such figure."""
        self.failures.setdefault(figure, {})[subject] = Summary(failed=why, limit=limit)

    def copy(self, figure: str, other: str, subject: str) -> None:
        """Let a figure of the subject stand for another one, which would be the same."""
        for table in (self.samples, self.failures):
            if subject in table.get(figure, {}):
                table.setdefault(other, {})[subject] = table[figure][subject]  # type: ignore[index]

    def failed(self, figure: str, subject: str) -> bool:
        return subject in self.failures.get(figure, {})

    def get(self, figure: str, subject: str) -> Summary | None:
        """Return a summary; None where the subject was not measured. A failure counts for more than samples."""
        failure = self.failures.get(figure, {}).get(subject) or self.loaded.get(figure, {}).get(subject)
        samples = self.samples.get(figure, {}).get(subject)
        return failure or (summary(samples) if samples else None)

    def median(self, figure: str, subject: str) -> float | None:
        found = self.get(figure, subject)
        return None if found is None or found.failed else found.median

    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.samples, *self.failures, *self.loaded]))

    def subjects(self, figure: str) -> list[str]:
        return list(
            dict.fromkeys(
                subject for table in (self.samples, self.failures, self.loaded) for subject in table.get(figure, {})
            )
        )

    def as_json(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            figure: {
                subject: found.as_json()
                for subject in self.subjects(figure)
                if (found := self.get(figure, subject)) is not None
            }
            for figure in self.names()
        }

    # --- what follows ------------------------------------------------------------------------------------------------

    def per_resource(self, run: str, of: str, sizes: tuple[int, int, int], keys: int) -> None:
        """Derive how much more a resource costs among many than among few: ``sizes`` are one, few and many."""
        figures = [f"{run}.etcd.{size}x{keys}.{of}" for size in sizes]
        for subject in self.subjects(figures[-1]):
            costs = [self.median(figure, subject) for figure in figures]
            if None not in costs:
                value = growth(costs, sizes)  # type: ignore[arg-type]
                self.samples.setdefault(f"{run}.per-resource.{of}", {})[subject] = [value]
            elif failure := self.failures.get(figures[-1], {}).get(subject):
                self.failures.setdefault(f"{run}.per-resource.{of}", {})[subject] = failure

    def over_floor(self, figure: str, derived: str) -> None:
        """Derive by how much each subject is above the floor of the same figure."""
        floor = self.median(figure, FLOOR)
        for subject in self.subjects(figure):
            value = self.median(figure, subject)
            if subject != FLOOR and None not in (floor, value):
                self.samples.setdefault(derived, {})[subject] = [value - floor]  # type: ignore[operator]


def growth(costs: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the cost of each further resource among many ÷ among few, given what one, few and many cost."""
    (one, few, many), (first, second, third) = costs, sizes
    return ((many - one) / (third - first)) / ((few - one) / (second - first))
