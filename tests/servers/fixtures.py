"""Servers as fixtures: ``pytest_plugins = ["tests.servers.fixtures"]`` in the top conftest makes them known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.etcd import Etcd
from tests.servers.proxy import FaultProxy


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    """A real etcd of its own for this test."""
    with Etcd() as server:
        yield server


@pytest.fixture
def proxy(etcd: Etcd) -> Iterator[FaultProxy]:
    """A proxy before the test's etcd that counts, and fails when told to."""
    with FaultProxy(etcd.port) as server:
        yield server
