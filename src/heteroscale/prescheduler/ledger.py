"""Free GPUs per node within one cycle: what is left of the inventory as capacity is granted.

Built from observation once per cycle and only ever reduced: what scale-in frees returns with the
next cycle's inventory. Trials run on a fork; only `commit` writes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.entities.topology import DomainPath, Inventory, Node, TopologyTree
from heteroscale.errors import InvariantViolation
from heteroscale.prescheduler.topology import depth_of

#: (service, role, accelerator) → the shape of one instance
Shapes = Mapping[tuple[str, str, str], AcceleratorOption]


class _Stock:
    """What stays the same in a cycle; shared by a ledger and all its forks, filled on first use."""

    def __init__(self, nodes: Sequence[Node], tree: TopologyTree) -> None:
        self.nodes = nodes
        self.tree = tree
        #: accelerator per node; None = unhealthy, takes nothing
        self.types = [node.accelerator if node.healthy else None for node in nodes]
        self.node_gpus: dict[str, int] = {}
        for node in nodes:
            if node.gpus > self.node_gpus.get(node.accelerator, 0):
                self.node_gpus[node.accelerator] = node.gpus
        #: path length → (domain, accelerator) → healthy nodes in the order of first fit
        self._pools: dict[int, dict[tuple[DomainPath, str], tuple[int, ...]]] = {}
        self._by_depth: dict[int, tuple[DomainPath, ...]] = {}

    @cached_property
    def _leaves(self) -> list[tuple[tuple[DomainPath, str], list[int]]]:
        """Healthy nodes by place and type, all sorted: the order of first fit."""
        nodes = self.nodes
        leaves: dict[tuple[DomainPath, str], list[int]] = {}
        for index, node in enumerate(nodes):
            if node.healthy:
                leaves.setdefault((node.domain, node.accelerator), []).append(index)
        for own in leaves.values():
            own.sort(key=lambda index: nodes[index].name)
        return sorted(leaves.items())

    def pool(self, domain: DomainPath, accelerator: str) -> tuple[int, ...]:
        """Return the healthy nodes of a type in a domain, in the order of first fit."""
        depth = len(domain)
        if depth not in self._pools:
            pools: dict[tuple[DomainPath, str], list[int]] = {}
            for (leaf, kind), own in self._leaves:
                if len(leaf) >= depth:
                    pools.setdefault((leaf[:depth], kind), []).extend(own)
            self._pools[depth] = {key: tuple(own) for key, own in pools.items()}
        return self._pools[depth].get((domain, accelerator), ())

    def at_depth(self, depth: int) -> tuple[DomainPath, ...]:
        """Return every domain whose path has this length, sorted."""
        if depth not in self._by_depth:
            self._by_depth[depth] = tuple(d for d in self.tree.domains if len(d) == depth)
        return self._by_depth[depth]


class Ledger:
    """Free GPUs of every node, never negative."""

    def __init__(
        self,
        stock: _Stock,
        free: list[int],
        starts: dict[tuple[DomainPath, str, int], int],
        parent: Ledger | None = None,
    ) -> None:
        self._stock = stock
        self._free = free
        #: (domain, accelerator, GPUs) → nodes of the pool that are known to have less; free GPUs
        #: only fall, so a search never has to look at them again
        self._starts = starts
        self._parent = parent
        #: domains → their census, while nothing is deducted
        self._censuses: dict[tuple[DomainPath, ...], tuple[Counter[tuple[str | None, int]], int]]
        self._censuses = {}

    @classmethod
    def of(
        cls,
        inventory: Inventory,
        tree: TopologyTree,
        instances: Iterable[Instance],
        shapes: Shapes | None = None,
    ) -> Ledger:
        """Return the ledger at the start of a cycle.

        Args:
            instances: of every service, whether it asks or not.
            shapes: known instance shapes; an instance without one says itself how many GPUs it
                holds, or is taken to hold whole nodes.
        """
        stock = _Stock(inventory.nodes, tree)
        ledger = cls(stock, [node.gpus for node in inventory.nodes], {})
        names: dict[DomainPath, dict[str, int]] = {}
        for index, node in enumerate(inventory.nodes):
            names.setdefault(node.domain[:1], {})[node.name] = index
        waiting: list[Instance] = []
        for instance in instances:
            if instance.state is InstanceState.TERMINATED:
                continue
            if not instance.nodes and instance.state is InstanceState.PENDING:
                waiting.append(instance)
            own = names.get((instance.subcluster,), {})
            gpus = _gpus_per_node(instance, shapes or {})
            for name in instance.nodes:
                if name in own:
                    ledger._occupy(own[name], gpus)
        for instance in sorted(waiting, key=lambda one: one.uid):
            ledger._reserve(instance, shapes or {})
        return ledger

    @property
    def nodes(self) -> Sequence[Node]:
        """Every node of the inventory."""
        return self._stock.nodes

    @property
    def node_gpus(self) -> Mapping[str, int]:
        """Accelerator → GPUs of its largest node."""
        return self._stock.node_gpus

    @property
    def free(self) -> Sequence[int]:
        """Free GPUs per node."""
        return self._free

    def names(self, nodes: Iterable[int]) -> tuple[str, ...]:
        """Return the names of nodes, sorted."""
        return tuple(sorted(self._stock.nodes[index].name for index in nodes))

    def occupy(self, node: int, gpus: int) -> None:
        """Deduct GPUs of one node."""
        self._occupy(node, gpus)

    def fork(self) -> Ledger:
        """Return a trial that reads and deducts without this ledger noticing."""
        return Ledger(self._stock, self._free.copy(), self._starts.copy(), self)

    def commit(self, trial: Ledger) -> None:
        """Make a trial's deductions this ledger's own.

        Raises:
            InvariantViolation: the trial was forked from another ledger.
        """
        if trial._parent is not self:
            raise InvariantViolation("a ledger takes over only its own fork")
        self._free, self._starts = trial._free, trial._starts
        self._censuses.clear()

    def take(self, domain: DomainPath, option: AcceleratorOption) -> tuple[int, ...]:
        """Deduct one instance inside a domain and return its nodes; () = it does not fit."""
        found = self._find(domain, option)
        for index in found:
            self._occupy(index, option.gpus)
        return found

    def has_room(self, domain: DomainPath, option: AcceleratorOption) -> bool:
        """Return whether one instance would fit inside a domain."""
        return bool(self._find(domain, option))

    def domains(self, level: str | None, inside: DomainPath = ()) -> tuple[DomainPath, ...]:
        """Return the domains of a level (None = sub-clusters) inside a wider one, sorted.

        A domain that is narrower than the level already is the answer itself.
        """
        depth, length = depth_of(self._stock.tree.levels, level), len(inside)
        if length >= depth:
            return (inside,)
        at_depth = self._stock.at_depth(depth)
        # Sorted, so those inside stand side by side.
        start = bisect_left(at_depth, inside)
        return at_depth[start : bisect_right(at_depth, inside, start, key=lambda d: d[:length])]

    def census(self, domains: Iterable[DomainPath]) -> tuple[Counter[tuple[str | None, int]], int]:
        """Return (accelerator or None = unhealthy, free GPUs) → nodes inside, and nodes outside."""
        key = tuple(domains)
        if key in self._censuses:
            return self._censuses[key]
        inside: set[int] = set()
        for domain in key:
            inside.update(self._stock.tree.domains.get(domain, ()))
        types, free = self._stock.types, self._free
        # Counted without a Python step per node: this runs for every service that goes without.
        counts = Counter(
            zip(map(types.__getitem__, inside), map(free.__getitem__, inside), strict=True)
        )
        self._censuses[key] = counts, len(free) - len(inside)
        return self._censuses[key]

    def _find(self, domain: DomainPath, option: AcceleratorOption) -> tuple[int, ...]:
        """Return the first nodes that hold one instance; () = none do."""
        if option.nodes == 1:
            pool = self._stock.pool(domain, option.type)
            start = self._first(domain, pool, option)
            return pool[start : start + 1]
        for inner in self.domains(option.within, domain) if option.within else (domain,):
            pool = self._stock.pool(inner, option.type)
            if len(pool) < option.nodes:
                continue
            rest = pool[self._first(inner, pool, option) :]
            roomy = [index for index in rest if self._free[index] >= option.gpus]
            if len(roomy) >= option.nodes:
                return tuple(roomy[: option.nodes])
        return ()

    def _first(self, domain: DomainPath, pool: Sequence[int], option: AcceleratorOption) -> int:
        """Return where in its pool the first node with room stands; the pool's length = nowhere."""
        if not pool:
            return 0
        key = (domain, option.type, option.gpus)
        free = self._free
        place = self._starts.get(key, 0)
        while place < len(pool) and free[pool[place]] < option.gpus:
            place += 1
        self._starts[key] = place
        return place

    def _occupy(self, index: int, gpus: int | None) -> None:
        # More GPUs taken than there are: the inventory and the instances disagree; full is full.
        left = 0 if gpus is None else self._free[index] - gpus
        self._free[index] = max(0, left)
        self._censuses.clear()

    def _reserve(self, instance: Instance, shapes: Shapes) -> None:
        """Set GPUs aside for an instance that waits for its node, if there are any."""
        domain = (instance.subcluster,)
        shape = shapes.get((instance.service, instance.role, instance.accelerator))
        if shape is None:
            pool = self._stock.pool(domain, instance.accelerator)
            widest = max((self._stock.nodes[index].gpus for index in pool), default=0)
            gpus = widest if instance.gpus is None else instance.gpus
            shape = AcceleratorOption(type=instance.accelerator, gpus=gpus)
        self.take(domain, shape)


def _gpus_per_node(instance: Instance, shapes: Shapes) -> int | None:
    """Return what an instance holds on each of its nodes; None = all of it."""
    if instance.gpus is not None:
        return instance.gpus
    shape = shapes.get((instance.service, instance.role, instance.accelerator))
    return None if shape is None else shape.gpus
