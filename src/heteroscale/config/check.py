"""A file of either kind, told apart by its keys and checked."""

from __future__ import annotations

from pathlib import Path

from heteroscale.config.document import parse_document, read_text
from heteroscale.config.load import parse_fleet
from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError

#: keys that only a scenario has
_SCENARIO_KEYS = ("service", "traffic", "nodes", "initial")


def check_file(path: Path) -> FleetSpec | Scenario:
    """Return what a faultless file holds.

    Raises:
        ConfigError: with every problem in the file, or because it is of neither kind.
    """
    text = read_text(path)
    document = parse_document(text, str(path))
    keys = document.value if isinstance(document.value, dict) else {}
    if "services" in keys:
        return parse_fleet(text, str(path))
    if any(key in keys for key in _SCENARIO_KEYS):
        return parse_scenario(text, str(path), path.parent)
    rule = "must have services (a services file) or service and traffic (a scenario)"
    raise ConfigError([*document.problems, document.problem((), rule)])
