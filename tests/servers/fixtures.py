"""Servers as fixtures: ``pytest_plugins = ["tests.servers.fixtures"]`` in the top conftest makes them known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.run_as_user import needs
from tests.servers.authority import Authority
from tests.servers.consul import Consul
from tests.servers.docker import Docker, no_docker
from tests.servers.etcd import BINARY, Etcd, Etcd2, versions
from tests.servers.proxy import FaultProxy

if TYPE_CHECKING:
    from confpy.stores.consul.store import ConsulStore
    from confpy.stores.etcd.v2 import Etcd2Store
    from confpy.stores.etcd.v3 import Etcd3Store


EVERY_ETCD = ("test_etcd3", "test_etcd3_contract", "test_etcd3_network", "test_etcd3_users")
"""The modules whose tests run on each version of etcd that is here."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "etcd" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in EVERY_ETCD:
        found = versions()
        metafunc.parametrize("etcd", found.values(), ids=[f"etcd {version}" for version in found], indirect=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the certificates of a module's tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A real Docker engine, for all tests of this process: images and containers have names of their tests."""
    needs(no_docker())
    with Docker() as engine:
        yield engine


@pytest.fixture
def etcd(request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """A real etcd of its own for this test."""
    with Etcd(binary=getattr(request, "param", BINARY)) as server:
        yield server


@pytest.fixture
def etcd2() -> Iterator[Etcd2]:
    """A real etcd with its API v2, of its own for this test."""
    with Etcd2() as server:
        yield server


@pytest.fixture
def proxy(etcd: Etcd) -> Iterator[FaultProxy]:
    """A proxy before the test's etcd that counts, and fails on request."""
    with FaultProxy(etcd.port) as server:
        yield server


@pytest.fixture
def etcd_store() -> Iterator[Callable[..., Etcd3Store]]:
    """Opens etcd v3 stores: ``etcd_store(*nodes, **settings)``; they are closed after the test."""
    from confpy.config.settings import Settings
    from confpy.stores.etcd.v3 import Etcd3Store

    with ExitStack() as stack:

        def opened(*nodes: str, **settings: object) -> Etcd3Store:
            settings = {"connect_timeout": 2.0, "read_timeout": 5.0, **settings}
            return stack.enter_context(closing(Etcd3Store.open(Settings(nodes=nodes, **settings))))

        yield opened


@pytest.fixture
def etcd2_store() -> Iterator[Callable[..., Etcd2Store]]:
    """Opens etcd v2 stores: ``etcd2_store(*nodes, **settings)``; they are closed after the test."""
    from confpy.config.settings import Settings
    from confpy.stores.etcd.v2 import Etcd2Store

    with ExitStack() as stack:

        def opened(*nodes: str, **settings: object) -> Etcd2Store:
            settings = {"connect_timeout": 2.0, "read_timeout": 5.0, **settings}
            return stack.enter_context(closing(Etcd2Store.open(Settings(nodes=nodes, **settings))))

        yield opened


@pytest.fixture
def consul() -> Iterator[Consul]:
    """A real Consul of its own for this test."""
    with Consul() as server:
        yield server


@pytest.fixture
def consul_proxy(consul: Consul) -> Iterator[FaultProxy]:
    """A proxy before the test's Consul that counts, and fails on request."""
    with FaultProxy(consul.port) as server:
        yield server


@pytest.fixture
def consul_store() -> Iterator[Callable[..., ConsulStore]]:
    """Opens Consul stores: ``consul_store(*nodes, **settings)``; they are closed after the test."""
    from confpy.config.settings import Settings
    from confpy.stores.consul.store import ConsulStore

    with ExitStack() as stack:

        def opened(*nodes: str, **settings: object) -> ConsulStore:
            settings = {"connect_timeout": 2.0, "read_timeout": 5.0, **settings}
            return stack.enter_context(closing(ConsulStore.open(Settings(nodes=nodes, **settings))))

        yield opened
