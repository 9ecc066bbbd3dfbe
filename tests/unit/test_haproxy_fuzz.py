"""Mutated configurations: no crash, no command that no plan may hold. `python -m tests.haproxy_fuzz` runs for long."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.haproxy_fuzz import case, hold


@pytest.mark.parametrize("seed", range(4))
def test_no_mutated_configuration_breaks_the_plan(seed):
    random = Random(seed)
    counts = Counter(hold(*case(random), random) for _ in range(1000))
    assert counts["plan"] > 20
    assert counts["reload"] > 20
