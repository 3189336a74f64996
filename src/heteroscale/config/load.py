"""From a file's text to entities: shape first, then the rules between fields, faults together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from heteroscale.config.document import Document, parse_document, read_text
from heteroscale.config.faults import got, problems_of
from heteroscale.config.fields import Section
from heteroscale.config.rules import fleet_rules
from heteroscale.config.services import ServicesFile
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError, Problem

SectionT = TypeVar("SectionT", bound=Section)


def load_fleet(path: Path) -> FleetSpec:
    """Return every service of a services file.

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    return parse_fleet(read_text(path), str(path))


def parse_fleet(text: str, file: str | None) -> FleetSpec:
    """Return every service in a text; `file` is how problems name it.

    Raises:
        ConfigError: with every problem in the text, in the order of its lines.
    """
    document = parse_document(text, file)
    return checked(document, ServicesFile, fleet_rules).entity()


def checked(
    document: Document, section: type[SectionT], rules: Callable[[View], Iterator[Fault]]
) -> SectionT:
    """Return a document as a section that keeps its types and the rules between its fields.

    Raises:
        ConfigError: with every problem found.
    """
    shape: tuple[Problem, ...] = ()
    read: SectionT | None = None
    try:
        read = section.model_validate(document.value)
    except ValidationError as error:
        shape = problems_of(error, document, section)
        faulty = frozenset(
            tuple(key for key in fault["loc"] if key != "[key]") for fault in error.errors()
        )
    else:
        faulty = frozenset()
    view = View(value=document.value, faulty=faulty)
    crossed = (_problem(document, fault) for fault in rules(view) if fault.view.sound)
    problems = _in_order((*document.problems, *shape, *crossed))
    if problems or read is None:
        raise ConfigError(problems)
    return read


def _problem(document: Document, fault: Fault) -> Problem:
    rule, value = got(fault.rule, fault.view.value) if fault.shown else (fault.rule, None)
    return document.problem(fault.view.place, rule, value)


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems as they stand in the file, each once."""
    unique = {(problem.path, problem.rule): problem for problem in problems}
    return tuple(
        sorted(unique.values(), key=lambda problem: (problem.line or 0, problem.path, problem.rule))
    )
