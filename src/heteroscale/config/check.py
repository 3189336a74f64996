"""A file of any kind, told apart by its keys and checked."""

from __future__ import annotations

from pathlib import Path

from heteroscale.config.cluster import parse_cluster
from heteroscale.config.cluster_sections import ClusterFile
from heteroscale.config.document import parse_document, parse_json, read_text
from heteroscale.config.inventory import ReadInventory, load_inventory
from heteroscale.config.load import parse_fleet
from heteroscale.config.metrics import parse_metrics
from heteroscale.config.metrics_sections import MetricsFile
from heteroscale.config.scaled_service import parse_scaled_service
from heteroscale.config.scaled_service_sections import KIND, ScaledServiceFile
from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.config.wishes import Wishes, load_wishes
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError

#: keys that only a scenario has
_SCENARIO_KEYS = ("service", "traffic", "initial")


def check_file(
    path: Path,
) -> FleetSpec | Wishes | Scenario | ReadInventory | MetricsFile | ClusterFile | ScaledServiceFile:
    """Return what a faultless file holds; in an inventory every fault of a node is one.

    Raises:
        ConfigError: with every problem in the file, or because it is of no known kind.
    """
    text = read_text(path)
    read = parse_json if path.suffix == ".json" else parse_document
    document = read(text, str(path))
    keys = document.value if isinstance(document.value, dict) else {}
    several = "services" in keys and "nodes" in keys
    if several or any(key in keys for key in _SCENARIO_KEYS):
        return parse_scenario(text, str(path), path.parent)
    if keys.get("kind") == KIND:
        return parse_scaled_service(text, str(path))
    if "want" in keys:
        return load_wishes(path)
    if "services" in keys:
        return parse_fleet(text, str(path))
    if "workloads" in keys or "namespaces" in keys:
        return parse_cluster(text, str(path))
    if "servers" in keys:
        return parse_metrics(text, str(path))
    if "nodes" in keys:
        return _faultless(load_inventory(path))
    rule = (
        "must have services (a services file), services or a service beside nodes (a scenario), "
        "nodes alone (an inventory), servers (a metrics file), workloads or namespaces (a cluster "
        f"file), or be of kind {KIND}"
    )
    raise ConfigError([*document.problems, document.problem((), rule)])


def _faultless(read: ReadInventory) -> ReadInventory:
    if read.faults:
        raise ConfigError([fault.problem for fault in read.faults])
    return read
