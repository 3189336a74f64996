"""JSON Schema of the files, for editors and other programs; from the same models that read them."""

from __future__ import annotations

from typing import Any

from heteroscale.config.cluster_sections import ClusterFile
from heteroscale.config.fields import Section
from heteroscale.config.inventory_sections import InventoryFile
from heteroscale.config.metrics_sections import MetricsFile
from heteroscale.config.scaled_service_sections import ScaledServiceFile
from heteroscale.config.scenario_sections import FleetScenarioFile, ScenarioFile
from heteroscale.config.services import ServicesFile
from heteroscale.config.wishes import WishesFile
from heteroscale.errors import ConfigError, Problem

#: kind of file → its model
FILES: dict[str, type[Section]] = {
    "services": ServicesFile,
    "scenario": ScenarioFile,
    "fleet-scenario": FleetScenarioFile,
    "inventory": InventoryFile,
    "wishes": WishesFile,
    "metrics": MetricsFile,
    "cluster": ClusterFile,
    "scaled-service": ScaledServiceFile,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str = "services") -> dict[str, Any]:
    """Return the JSON Schema of one kind of file.

    Rules between fields are not in it: `heteroscale validate` knows them all.

    Raises:
        ConfigError: there is no such kind of file.
    """
    if kind not in FILES:
        rule = f"must be one of {', '.join(FILES)}"
        raise ConfigError([Problem(path="kind", rule=rule, value=kind)])
    return {"$schema": _DIALECT, **FILES[kind].model_json_schema()}
