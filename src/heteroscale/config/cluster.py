"""The cluster file read and checked, by itself and against the fleet whose workloads it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind
from heteroscale.config.document import parse_document, read_text
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.config.load import checked
from heteroscale.config.policy_rules import repeated
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import Problem

#: kinds that hold the counts of several roles
WITH_COMPONENTS = frozenset(
    {ScalableKind.MODEL_SERVING, ScalableKind.STORM_SERVICE, ScalableKind.DYNAMO_GRAPH_DEPLOYMENT}
)


def load_cluster(path: Path) -> ClusterFile:
    """Return a cluster file.

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    return parse_cluster(read_text(path), str(path))


def parse_cluster(text: str, file: str | None) -> ClusterFile:
    """Return what a text says; `file` is how problems name it.

    Raises:
        ConfigError: with every problem in the text, in the order of its lines.
    """
    return checked(parse_document(text, file), ClusterFile, cluster_rules)


def cluster_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a cluster file."""
    named = (file.at("workloads"), file.at("namespaces"))
    if not any(one.value for one in named) and all(one.sound for one in named):
        rule = "must have at least 1 entry, or namespaces must"
        yield Fault(view=named[0], rule=rule, shown=False)
    yield from repeated(named[1].items())
    counts: set[tuple[object, ...]] = set()
    objects: set[tuple[object, ...]] = set()
    for workload in file.at("workloads").items():
        count = _texts(workload, ("service", "role", "accelerator", "namespace"))
        if None not in count and count in counts:
            rule = "must be the only workload of its service, role, accelerator and namespace"
            yield Fault(view=workload, rule=rule, shown=False)
        counts.add(count)
        target = _texts(workload, ("kind", "namespace", "name", "component"))
        if workload.at("name").text() is not None and target in objects:
            yield Fault(view=workload, rule="must not name an object twice", shown=False)
        objects.add(target)
        kind = workload.at("kind").text()
        if kind in set(ScalableKind):
            yield from component_rules(workload, ScalableKind(kind))
    switches = file.at("nodes", "switches").text("topograph")
    if switches is not None and switches not in LABEL_PRESETS:
        rule = f"must be one of {', '.join(LABEL_PRESETS)}"
        yield Fault(view=file.at("nodes", "switches"), rule=rule)


def unknown_names(file: ClusterFile, fleet: FleetSpec) -> Iterator[Problem]:
    """Yield a problem for every workload whose service, role or accelerator the fleet lacks."""
    specs = {spec.name: spec for spec in fleet.services}
    for index, workload in enumerate(file.workloads):
        at = f"workloads[{index}]"
        spec = specs.get(workload.service)
        if spec is None:
            rule = f"must be one of {', '.join(sorted(specs))}"
            yield Problem(path=f"{at}.service", rule=rule, value=workload.service)
            continue
        leaves = {leaf.path: leaf for leaf in spec.group.leaves()}
        leaf = leaves.get(workload.role)
        if leaf is None:
            rule = f"must be one of {', '.join(leaves)}"
            yield Problem(path=f"{at}.role", rule=rule, value=workload.role)
        elif spec.option(workload.role, workload.accelerator) is None:
            rule = f"must be one of {', '.join(option.type for option in leaf.accelerators)}"
            yield Problem(path=f"{at}.accelerator", rule=rule, value=workload.accelerator)
    held = {(one.service, one.role) for one in file.workloads}
    for spec in fleet.services:
        missing = [one.path for one in spec.group.leaves() if (spec.name, one.path) not in held]
        if missing and len(missing) < len(spec.group.leaves()):
            rule = f"must name a workload for every role of {spec.name}: {', '.join(missing)}"
            yield Problem(path="workloads", rule=rule)


def component_rules(workload: View, kind: ScalableKind) -> Iterator[Fault]:
    """Yield a fault where a component is lacking, or named in a kind that has none."""
    view = workload.at("component")
    if kind in WITH_COMPONENTS and view.value is None:
        yield Fault(view=view, rule=f"is required with kind {kind}", shown=False)
    if kind not in WITH_COMPONENTS and view.value is not None:
        yield Fault(view=view, rule=f"must not be written with kind {kind}")


def _texts(workload: View, keys: tuple[str, ...]) -> tuple[object, ...]:
    defaults: Mapping[str, str] = {"namespace": "default", "component": ""}
    return tuple(workload.at(key).text(defaults.get(key)) for key in keys)
