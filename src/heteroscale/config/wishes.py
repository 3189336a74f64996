"""The wishes file: a services file that also says how much each service should have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from heteroscale.config.document import Document, parse_document, parse_json, read_text
from heteroscale.config.fields import Name, Text, optional
from heteroscale.config.load import checked
from heteroscale.config.policy_rules import leaf_rule
from heteroscale.config.rules import fleet_rules, leaf_roles, within_bounds
from heteroscale.config.services import ServicesFile
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import FleetSpec, RolePath
from heteroscale.errors import ConfigError, Problem

_Units = Annotated[int, Field(ge=0)]


class WishesFile(ServicesFile):
    """A services file and what is wanted of it."""

    want: Mapping[Name, Mapping[Text, _Units]] = optional(
        {}, "service → leaf role → capacity units it should have; absent = as many as it has"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Services, and the capacity they should have."""

    fleet: FleetSpec
    #: service → leaf role → capacity units
    want: Mapping[str, Mapping[RolePath, int]]


def load_wishes(path: Path, more: Mapping[str, Mapping[RolePath, int]] | None = None) -> Wishes:
    """Return a services or wishes file (JSON where its name ends so) with further wishes.

    Args:
        more: in place of what the file wants of the same roles.

    Raises:
        ConfigError: with every problem in the file, or with a wish beside it.
    """
    text, file = read_text(path), str(path)
    document = parse_json(text, file) if path.suffix == ".json" else parse_document(text, file)
    read = checked(document, WishesFile, _rules)
    if not more:
        return Wishes(fleet=read.entity(), want=read.want)
    want = {**read.want}
    for service, roles in more.items():
        want[service] = {**want.get(service, {}), **roles}
    return Wishes(fleet=read.entity(), want=_beside(document, want))


def _beside(
    document: Document, want: Mapping[str, Mapping[RolePath, int]]
) -> Mapping[str, Mapping[RolePath, int]]:
    """Return wishes that keep the rules of the file they stand beside.

    Raises:
        ConfigError: they do not.
    """
    written = dict(document.value) if isinstance(document.value, dict) else {}
    view = View(value={**written, "want": {name: dict(roles) for name, roles in want.items()}})
    problems = [
        Problem(path=str(document.problem(fault.view.place, "").path), rule=fault.rule)
        if not fault.shown
        else document.problem(fault.view.place, fault.rule, fault.view.value)
        for fault in _want_rules(view)
    ]
    if problems:
        raise ConfigError(problems)
    return want


def _rules(file: View) -> Iterator[Fault]:
    yield from fleet_rules(file)
    yield from _want_rules(file)


def _want_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between wishes and services."""
    services = {
        name: service
        for service in file.at("services").items()
        if (name := service.at("name").text()) is not None
    }
    for name, roles in file.at("want").entries():
        if name not in services:
            rule = f"must be one of the services: {', '.join(services)}"
            yield Fault(view=roles, rule=rule, shown=False)
            continue
        leaves = leaf_roles(services[name].at("group", "roles"))
        for role, units in roles.entries():
            if role in leaves:
                yield from within_bounds(units, leaves[role])
            else:
                yield Fault(view=units, rule=leaf_rule(tuple(leaves)), shown=False)
