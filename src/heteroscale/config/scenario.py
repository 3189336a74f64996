"""A scenario: everything one simulated run is made from, checked to be possible."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from heteroscale.config.document import parse_document, read_text
from heteroscale.config.fault_sections import FaultSection, FaultsFile, fault_rules
from heteroscale.config.load import checked
from heteroscale.config.model_sections import ModelSection
from heteroscale.config.scenario_rules import scenario_rules
from heteroscale.config.scenario_sections import (
    MetricsSection,
    NetworkSection,
    NodesSection,
    ScenarioFile,
    ServingSection,
    StartUpSection,
    StaticPeakSection,
    TraceSection,
    TrafficSection,
)
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.errors import ConfigError, Problem

#: what `heteroscale simulate` runs when no scenario is given
BUILT_IN = "paper-day"
_CURVE_NAME = re.compile(r"[a-z0-9_]+")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One simulated run. Its paths are absolute or relative to the working directory."""

    name: str
    seed: int
    #: epoch seconds
    start_s: float
    #: None = the run ends with its trace, or after the curve's day
    duration_s: float | None
    #: exactly one service
    fleet: FleetSpec
    traffic: TrafficSection
    model: ModelSection
    serving: ServingSection
    nodes: tuple[NodesSection, ...]
    network: NetworkSection
    start_up_s: float
    #: leaf role → instances at the start
    initial: Mapping[str, int]
    metrics: MetricsSection
    static_peak: StaticPeakSection
    timeline_interval_s: float
    #: None = every instance takes start_up_s
    start_up: StartUpSection | None = None
    #: in the order written; empty = nothing goes wrong
    faults: tuple[FaultSection, ...] = ()

    @property
    def service(self) -> ServiceSpec:
        """Return the one service."""
        return self.fleet.services[0]


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
        yield from _file_rules(view.at("traffic"), folder)
        yield from _profile_rules(view.at("model", "profile"), folder)

    read = checked(document, ScenarioFile, rules)
    return Scenario(
        name=read.name,
        seed=read.seed,
        start_s=dt.datetime.fromisoformat(read.start).timestamp(),
        duration_s=read.duration_s,
        fleet=read.fleet.entity((read.service,)),
        traffic=_with_paths(read.traffic, folder),
        model=_with_profile(read.model, folder),
        serving=read.serving,
        nodes=read.nodes,
        network=read.network,
        start_up_s=read.start_up_s,
        initial=read.initial,
        metrics=read.metrics,
        static_peak=read.static_peak,
        timeline_interval_s=read.timeline_interval_s,
        start_up=read.start_up,
        faults=read.faults,
    )


def load_faults(path: Path, scenario: Scenario) -> tuple[FaultSection, ...]:
    """Return the faults in a file that are to strike a scenario.

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    roles = tuple(leaf.path for leaf in scenario.service.group.leaves())
    subclusters = tuple(dict.fromkeys(section.subcluster for section in scenario.nodes))

    def rules(view: View) -> Iterator[Fault]:
        yield from fault_rules(view.at("faults"), roles, subclusters)

    return checked(parse_document(read_text(path), str(path)), FaultsFile, rules).faults


def with_trace(scenario: Scenario, trace: Path | None) -> Scenario:
    """Return a scenario that is ready to run: `trace`, where given, takes the place of its traffic.

    A trace in place of other traffic brings its own length; one in place of a trace is cut where
    the scenario says.

    Raises:
        ConfigError: the trace cannot be read, or the scenario needs one and none is given.
    """
    own = scenario.traffic.trace
    if trace is None:
        if own is not None and own.path is None:
            rule = "is required: write it in the scenario or give it with --trace"
            raise ConfigError([Problem(path="traffic.trace.path", rule=rule)])
        return scenario
    fault = _unreadable(trace)
    if fault:
        raise ConfigError([Problem(path="--trace", rule=fault, value=str(trace))])
    section = (own or TraceSection()).model_copy(update={"path": str(trace)})
    duration_s = None if own is None else scenario.duration_s
    return dataclasses.replace(
        scenario, traffic=TrafficSection(trace=section), duration_s=duration_s
    )


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
