"""Memory of the planner in a real cluster, as several leaders in a row see it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.config_map_store import ConfigMapStore
from tests.cluster.control_plane import ControlPlane
from tests.cluster.worlds import fleet_of

#: in a namespace, as the chart's role lets it be kept
NAME = "heteroscale-state"
CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"


def always() -> float:
    return math.inf


class Leaders(Protocol):
    """Opens the same memory for one controller after the other."""

    def __call__(
        self, writer: str, may_change_s: Callable[[], float] = always
    ) -> ConfigMapStore: ...


def memory_in(namespace: str) -> str:
    """Return the path of the memory in a namespace."""
    return f"{CONFIG_MAPS.format(namespace)}/{NAME}"


def namespace_of(test: str) -> str:
    """Return a namespace that only one test has."""
    return f"memory-{zlib.crc32(test.encode()):08x}"


@contextmanager
def leaders(plane: ControlPlane, test: str) -> Iterator[Leaders]:
    """Yield what opens a memory that only this test has."""
    clock, namespace = WallClock(), namespace_of(test)
    with ExitStack() as opened:
        opened.enter_context(fleet_of(opened.enter_context(plane.client()), namespace))

        def store_of(writer: str, may_change_s: Callable[[], float] = always) -> ConfigMapStore:
            api = ApiServer(clock, kubeconfig=plane.controller, may_change_s=may_change_s)
            opened.callback(api.close)
            return ConfigMapStore(api, clock, namespace=namespace, name=NAME, writer=writer)

        yield store_of
