"""`heteroscale place`: where capacity would go on a fleet as it stands, and why."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.inventory import load_inventory
from heteroscale.config.wishes import load_wishes
from heteroscale.errors import ConfigError, Problem
from heteroscale.prescheduler.defragment import defragment as defragmented
from heteroscale.prescheduler.what_if import what_if
from heteroscale.report.defragment import advice_lines, advice_values
from heteroscale.report.fleet_html import render_fleet
from heteroscale.report.fleet_text import fault_lines
from heteroscale.report.what_if import overlay_of, proposal_json, proposal_lines, proposal_of


@app.command()
def place(
    inventory: Annotated[
        Path, typer.Option(metavar="FILE", help="Nodes and what runs on them (YAML or JSON).")
    ],
    services: Annotated[
        Path, typer.Option(metavar="FILE", help="Services, and what they want (YAML or JSON).")
    ],
    want: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE/ROLE=UNITS",
            help="Capacity units a role should have; may be given several times.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    defragment: Annotated[
        bool,
        typer.Option(
            "--defragment", help="Tell also which groups could leave scarce subgroups to others."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a picture: one HTML page.")
    ] = None,
) -> None:
    """Show where wanted capacity would go, what would leave, and why. Nothing is changed."""
    wishes = load_wishes(services, _wanted(want or ()))
    read = load_inventory(inventory)
    fleet = read.fleet
    if fleet.levels != wishes.fleet.levels:
        rule = f"must be those of the inventory, {', '.join(fleet.levels)}"
        raise ConfigError(
            [Problem(path="fleet.levels", rule=rule, value=list(wishes.fleet.levels))]
        )
    asked = what_if(fleet, wishes.fleet.services, wishes.want)
    advice = defragmented(fleet, wishes.fleet.services) if defragment else None
    told = [] if advice is None else ["", *advice_lines(advice)]
    if not asked.requests and not as_json:
        print("\n".join(["Every service has what it wants: nothing would change.", *told]))
        return
    proposal = proposal_of(fleet, wishes.fleet.services, asked)
    if html is not None:
        overlay = overlay_of(fleet, asked, proposal)
        html.write_text(render_fleet(fleet, inventory.name, read.faults, overlay), encoding="utf-8")
    if as_json:
        values = {} if advice is None else advice_values(advice)
        print(proposal_json(fleet, asked, proposal, read.faults, values), end="")
        return
    print("\n".join([*proposal_lines(fleet, proposal), *told]))
    for line in fault_lines(read.faults):
        print(line, file=sys.stderr)


def _wanted(written: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Return service → role → units of what stands on the command line.

    Raises:
        ConfigError: it is not written as it must be.
    """
    wanted: dict[str, dict[str, int]] = {}
    problems: list[Problem] = []
    for text in written:
        place, _, units = text.rpartition("=")
        service, _, role = place.partition("/")
        if service and role and units.isdecimal() and len(units) < 10:
            wanted.setdefault(service, {})[role] = int(units)
        else:
            rule = "must be SERVICE/ROLE=UNITS, e.g. chat/decode=8"
            problems.append(Problem(path="--want", rule=rule, value=text))
    if problems:
        raise ConfigError(problems)
    return wanted
