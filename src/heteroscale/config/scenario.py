"""A scenario: everything one simulated run is made from, checked to be possible."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from heteroscale.config.document import parse_document, read_text
from heteroscale.config.fault_sections import FaultSection, FaultsFile, fault_rules
from heteroscale.config.load import checked
from heteroscale.config.model_sections import ModelSection
from heteroscale.config.scenario_rules import parts_of, scenario_rules
from heteroscale.config.scenario_sections import (
    FleetScenarioFile,
    MetricsSection,
    NetworkSection,
    NodesSection,
    ScenarioFile,
    ServingSection,
    SimulatedSection,
    StartUpSection,
    StaticPeakSection,
    TraceSection,
    TrafficSection,
)
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.errors import ConfigError, InvariantViolation, Problem

#: what `heteroscale simulate` runs when no scenario is given
BUILT_IN = "paper-day"
ItemT = TypeVar("ItemT")
_CURVE_NAME = re.compile(r"[a-z0-9_]+")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a simulation knows of one service beside its spec."""

    #: the service's
    name: str
    traffic: TrafficSection
    model: ModelSection
    serving: ServingSection
    start_up_s: float
    #: None = every instance takes start_up_s
    start_up: StartUpSection | None = None
    #: leaf role → instances at the start
    initial: Mapping[str, int]
    #: added to the scenario's seed for what only this service draws
    stream: int = 0
    #: what stands before its keys in the file
    place: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One simulated run. Its paths are absolute or relative to the working directory."""

    name: str
    seed: int
    #: epoch seconds
    start_s: float
    #: None = the run ends with its traces, or after the curve's day
    duration_s: float | None
    #: every service, in the order written
    fleet: FleetSpec
    #: of each service, in the same order
    simulated: tuple[Simulated, ...]
    nodes: tuple[NodesSection, ...]
    network: NetworkSection
    metrics: MetricsSection
    static_peak: StaticPeakSection
    timeline_interval_s: float
    #: in the order written; empty = nothing goes wrong
    faults: tuple[FaultSection, ...] = ()

    @property
    def service(self) -> ServiceSpec:
        """Return the one service.

        Raises:
            InvariantViolation: there are several.
        """
        return only(self.fleet.services)

    @property
    def own(self) -> Simulated:
        """Return what is known of the one service beside its spec.

        Raises:
            InvariantViolation: there are several.
        """
        return only(self.simulated)

    def alone(self) -> tuple[Scenario, ...]:
        """Return each service as a scenario of its own, in which it draws what it draws here."""
        return tuple(
            dataclasses.replace(
                self,
                seed=self.seed + own.stream,
                fleet=dataclasses.replace(self.fleet, services=(service,)),
                simulated=(dataclasses.replace(own, stream=0),),
            )
            for service, own in zip(self.fleet.services, self.simulated, strict=True)
        )


def load_scenario(path: Path) -> Scenario:
    """Return the scenario in a file; a trace path may still be missing (`with_trace` gives it).

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    return parse_scenario(read_text(path), str(path), path.parent)


def built_in_scenario(name: str = BUILT_IN) -> Scenario:
    """Return a scenario that is shipped with the package."""
    folder = importlib.resources.files("heteroscale.config") / "scenarios"
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_scenario(text, f"{name}.yaml", Path())


def parse_scenario(text: str, file: str | None, folder: Path) -> Scenario:
    """Return the scenario in a text whose paths are relative to a folder.

    Raises:
        ConfigError: with every problem in the text, in the order of its lines.
    """
    document = parse_document(text, file)

    def rules(view: View) -> Iterator[Fault]:
        yield from scenario_rules(view)
        for part in parts_of(view):
            yield from _file_rules(part.at("traffic"), folder)
            yield from _profile_rules(part.at("model", "profile"), folder)

    read: ScenarioFile | FleetScenarioFile
    if isinstance(document.value, dict) and "services" in document.value:
        read = several = checked(document, FleetScenarioFile, rules)
        parts: tuple[SimulatedSection, ...] = several.services
        simulated = tuple(
            _simulated(part, folder, stream=_stream(part.service.name), place=f"services[{at}].")
            for at, part in enumerate(parts)
        )
    else:
        read = one = checked(document, ScenarioFile, rules)
        parts, simulated = (one,), (_simulated(one, folder),)
    return Scenario(
        name=read.name,
        seed=read.seed,
        start_s=dt.datetime.fromisoformat(read.start).timestamp(),
        duration_s=read.duration_s,
        fleet=read.fleet.entity(tuple(part.service for part in parts)),
        simulated=simulated,
        nodes=read.nodes,
        network=read.network,
        metrics=read.metrics,
        static_peak=read.static_peak,
        timeline_interval_s=read.timeline_interval_s,
        faults=read.faults,
    )


def _simulated(
    part: SimulatedSection, folder: Path, *, stream: int = 0, place: str = ""
) -> Simulated:
    return Simulated(
        name=part.service.name,
        traffic=_with_paths(part.traffic, folder),
        model=_with_profile(part.model, folder),
        serving=part.serving,
        start_up_s=part.start_up_s,
        start_up=part.start_up,
        initial=part.initial,
        stream=stream,
        place=place,
    )


def _stream(service: str) -> int:
    """Return what sets a service's draws apart, whoever else is simulated beside it."""
    return int.from_bytes(hashlib.sha256(service.encode()).digest()[:4], "big")


def only(items: Sequence[ItemT]) -> ItemT:
    """Return the one item of a sequence.

    Raises:
        InvariantViolation: there are none or several.
    """
    if len(items) != 1:
        raise InvariantViolation(f"one service is asked for, of {len(items)}")
    return items[0]


def load_faults(path: Path, scenario: Scenario) -> tuple[FaultSection, ...]:
    """Return the faults in a file that are to strike a scenario.

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    roles = {
        service.name: tuple(leaf.path for leaf in service.group.leaves())
        for service in scenario.fleet.services
    }
    subclusters = tuple(dict.fromkeys(section.subcluster for section in scenario.nodes))

    def rules(view: View) -> Iterator[Fault]:
        yield from fault_rules(view.at("faults"), roles, subclusters)

    return checked(parse_document(read_text(path), str(path)), FaultsFile, rules).faults


def with_trace(scenario: Scenario, trace: Path | None) -> Scenario:
    """Return a scenario that is ready to run: `trace`, where given, takes the place of its traffic.

    A trace in place of other traffic brings its own length; one in place of a trace is cut where
    the scenario says.

    Raises:
        ConfigError: the trace cannot be read, the scenario needs one and none is given, or it has
            several services, each with traffic of its own.
    """
    if trace is None:
        problems = [_missing_trace(own) for own in scenario.simulated if _needs_trace(own)]
        if problems:
            raise ConfigError(problems)
        return scenario
    fault = _unreadable(trace)
    if len(scenario.simulated) > 1:
        fault = "is for scenarios of one service: write traffic.trace.path of each instead"
    if fault:
        raise ConfigError([Problem(path="--trace", rule=fault, value=str(trace))])
    own, written = scenario.own, scenario.own.traffic.trace
    section = (written or TraceSection()).model_copy(update={"path": str(trace)})
    return dataclasses.replace(
        scenario,
        simulated=(dataclasses.replace(own, traffic=TrafficSection(trace=section)),),
        duration_s=None if written is None else scenario.duration_s,
    )


def _needs_trace(own: Simulated) -> bool:
    return own.traffic.trace is not None and own.traffic.trace.path is None


def _missing_trace(own: Simulated) -> Problem:
    rule = "is required: write it in the scenario"
    if not own.place:
        rule += " or give it with --trace"
    return Problem(path=f"{own.place}traffic.trace.path", rule=rule)


def is_built_in_curve(curve: str) -> bool:
    """Return whether a curve is meant by name, not by path."""
    return _CURVE_NAME.fullmatch(curve) is not None


def _with_paths(traffic: TrafficSection, folder: Path) -> TrafficSection:
    """Return traffic whose paths no longer depend on the scenario's folder."""
    trace, curve = traffic.trace, traffic.rate_curve
    if trace is not None and trace.path is not None:
        here = trace.model_copy(update={"path": str(folder / trace.path)})
        return traffic.model_copy(update={"trace": here})
    if curve is not None and not is_built_in_curve(curve.curve):
        here_curve = curve.model_copy(update={"curve": str(folder / curve.curve)})
        return traffic.model_copy(update={"rate_curve": here_curve})
    return traffic


def _with_profile(model: ModelSection, folder: Path) -> ModelSection:
    """Return a model whose profile no longer depends on the scenario's folder."""
    if model.profile is None:
        return model
    return model.model_copy(update={"profile": str(folder / model.profile)})


def _profile_rules(profile: View, folder: Path) -> Iterator[Fault]:
    """Yield a fault for a profile that is neither a readable file nor a folder."""
    path = profile.text()
    fault = None if path is None or (folder / path).is_dir() else _unreadable(folder / path)
    if fault:
        yield Fault(view=profile, rule=fault)


def _file_rules(traffic: View, folder: Path) -> Iterator[Fault]:
    """Yield a fault for each file that traffic is to be read from and that cannot be opened."""
    trace, curve = traffic.at("trace", "path"), traffic.at("rate_curve", "curve")
    for view in (trace, curve):
        path = view.text()
        if path is None or (view is curve and is_built_in_curve(path)):
            continue
        fault = _unreadable(folder / path)
        if fault:
            yield Fault(view=view, rule=fault)


def _unreadable(path: Path) -> str | None:
    """Return the broken rule when a file cannot be opened; None = it can."""
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return f"must be a readable file: {error.strerror or error}"
    except ValueError:  # a zero byte in the path
        return "must be a readable file: no path has a zero byte"
