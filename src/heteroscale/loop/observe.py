"""From what sub-clusters and metrics say to one snapshot, cheap where little has changed.

Identity stands for equality first: an adapter that hands out the same tuples costs next to nothing,
and what is equal here stays the same object for everyone below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, is_
from typing import Any, Generic, TypeAlias, TypeVar

from heteroscale.entities.snapshot import GroupRole, Instance, Observation, Reading, ServiceSnapshot
from heteroscale.entities.topology import Inventory, Node
from heteroscale.journal.codec import generation_of
from heteroscale.ports import Subcluster

_instance_order = attrgetter("role", "group", "accelerator", "ordinal", "uid")
_group_order = attrgetter("role", "group", "accelerator", "subcluster")
_node_order = attrgetter("name", "domain")

Instances: TypeAlias = tuple[Instance, ...]
GroupRoles: TypeAlias = tuple[GroupRole, ...]
#: what a service has in a sub-cluster
Thing = TypeVar("Thing", Instance, GroupRole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything sub-clusters say, by service."""

    instances: Mapping[str, Instances]
    group_roles: Mapping[str, GroupRoles]
    inventory: Inventory
    #: sub-clusters whose observation is too old, or that were never observed; sorted
    unreachable: tuple[str, ...]

    def services(
        self, names: Iterable[str], readings: Mapping[str, tuple[Reading, ...]]
    ) -> dict[str, ServiceSnapshot]:
        """Return a snapshot per service, sorted by name.

        Services nobody asked us to look after are there too, when they have instances: they occupy
        nodes.
        """
        every = sorted({*names, *self.instances, *self.group_roles})
        return {
            name: ServiceSnapshot(
                readings=readings.get(name, ()),
                instances=self.instances.get(name, ()),
                group_roles=self.group_roles.get(name, ()),
            )
            for name in every
        }


class Observer:
    """Remembers each sub-cluster's last observation, and what was made of it."""

    def __init__(self, subclusters: tuple[Subcluster, ...]) -> None:
        self._subclusters = subclusters
        #: sub-cluster → its last observation and when it was made
        self._last: dict[str, tuple[Observation, float]] = {}
        self._instances = _Sorted[Instance](_instance_order)
        self._group_roles = _Sorted[GroupRole](_group_order)
        self._nodes: tuple[tuple[Node, ...], ...] = ()
        self._inventory = Inventory(generation=generation_of(()), nodes=())

    def observe(self, now_s: float, stale_s: float, notices: list[str]) -> Seen:
        """Return what is known of all sub-clusters; say in `notices` which could not be reached.

        One that cannot be observed keeps its last observation, which grows older.
        """
        observations: list[Observation] = []
        unreachable: list[str] = []
        for subcluster in self._subclusters:
            known = self._ask(subcluster, now_s, notices)
            if known is None or not 0.0 <= known.age_s <= stale_s:
                unreachable.append(subcluster.name)
            if known is not None:
                observations.append(known)
        return Seen(
            instances=self._instances.of(tuple([one.instances for one in observations])),
            group_roles=self._group_roles.of(tuple([one.group_roles for one in observations])),
            inventory=self._inventory_of(tuple([one.nodes for one in observations])),
            unreachable=tuple(unreachable),
        )

    def _ask(self, subcluster: Subcluster, now_s: float, notices: list[str]) -> Observation | None:
        try:
            observation = subcluster.observe()
        except Exception as error:  # noqa: BLE001 - one failing sub-cluster must not stop the rest
            notices.append(f"sub-cluster {subcluster.name}: {type(error).__name__}: {error}")
            last = self._last.get(subcluster.name)
            if last is None:
                return None
            before, at_s = last
            if now_s < at_s:
                # the clock was set back: how old it is nobody can tell until it answers
                before, at_s = replace(before, age_s=math.inf), now_s
                self._last[subcluster.name] = (before, at_s)
            return replace(before, age_s=before.age_s + (now_s - at_s))
        self._last[subcluster.name] = (observation, now_s)
        notices.extend(f"sub-cluster {subcluster.name}: {one}" for one in observation.notices)
        return observation

    def _inventory_of(self, nodes: tuple[tuple[Node, ...], ...]) -> Inventory:
        if not _same_objects(nodes, self._nodes):
            self._nodes = nodes
            merged = tuple(sorted((node for part in nodes for node in part), key=_node_order))
            if merged != self._inventory.nodes:
                self._inventory = Inventory(generation=generation_of(merged), nodes=merged)
        return self._inventory


class _Sorted(Generic[Thing]):
    """Groups and sorts what sub-clusters report, touching only what changed since the last time."""

    def __init__(self, order: Callable[[Thing], Any]) -> None:
        self._order: Callable[[Thing], Any] = order
        self._parts: tuple[tuple[Thing, ...], ...] = ()
        #: service → what was reported, in the order it was
        self._raw: dict[str, tuple[Thing, ...]] = {}
        self._by_service: dict[str, tuple[Thing, ...]] = {}

    def of(self, parts: tuple[tuple[Thing, ...], ...]) -> Mapping[str, tuple[Thing, ...]]:
        """Return service → things in order; for the same parts the same mapping."""
        if _same_objects(parts, self._parts):
            return self._by_service
        self._parts = parts
        grouped: dict[str, list[Thing]] = {}
        for part in parts:
            for thing in part:
                grouped.setdefault(thing.service, []).append(thing)
        raw_before, sorted_before = self._raw, self._by_service
        self._raw, self._by_service = {}, {}
        for service, things in grouped.items():
            raw = tuple(things)
            if raw == raw_before.get(service):
                self._raw[service] = raw_before[service]
                self._by_service[service] = sorted_before[service]
            else:
                self._raw[service] = raw
                self._by_service[service] = tuple(sorted(raw, key=self._order))
        return self._by_service


def _same_objects(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))
