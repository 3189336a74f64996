"""A file of either kind, told apart by its keys, checked and described in a few words."""

from __future__ import annotations

from pathlib import Path

from heteroscale.config.document import parse_document, read_text
from heteroscale.config.load import parse_fleet
from heteroscale.config.scenario import parse_scenario
from heteroscale.errors import ConfigError

#: keys that only a scenario has
_SCENARIO_KEYS = ("service", "traffic", "nodes", "initial")


def check_file(path: Path) -> str:
    """Return what a faultless file holds, e.g. "4 services".

    Raises:
        ConfigError: with every problem in the file, or because it is of neither kind.
    """
    text = read_text(path)
    document = parse_document(text, str(path))
    keys = document.value if isinstance(document.value, dict) else {}
    if "services" in keys:
        count = len(parse_fleet(text, str(path)).services)
        return "1 service" if count == 1 else f"{count} services"
    if any(key in keys for key in _SCENARIO_KEYS):
        return f"scenario {parse_scenario(text, str(path), path.parent).name}"
    rule = "must have services (a services file) or service and traffic (a scenario)"
    raise ConfigError([*document.problems, document.problem((), rule)])
