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

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def always() -> float:
    return math.inf


class Leaders(Protocol):
    """Opens the same memory for one controller after the other."""

    def __call__(
        self, writer: str, may_change_s: Callable[[], float] = always
    ) -> ConfigMapStore: ...


def name_of(test: str) -> str:
    return f"memory-{zlib.crc32(test.encode()):08x}"


@contextmanager
def leaders(plane: ControlPlane, test: str) -> Iterator[Leaders]:
    """Yield what opens a memory that only this test has."""
    clock = WallClock()
    with ExitStack() as opened:

        def store_of(writer: str, may_change_s: Callable[[], float] = always) -> ConfigMapStore:
            api = ApiServer(clock, kubeconfig=plane.kubeconfig, may_change_s=may_change_s)
            opened.callback(api.close)
            return ConfigMapStore(
                api, clock, namespace="default", name=name_of(test), writer=writer
            )

        yield store_of
