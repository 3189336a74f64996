"""Composition root: the one place that knows every part and puts them together.

It decides nothing. What a run leaves behind is written as a whole or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from heteroscale.adapters.journal_file import JournalFolder, JournalOptions
from heteroscale.adapters.memory import MemoryStore
from heteroscale.adapters.whole_folder import whole_folder
from heteroscale.config.scenario import Scenario, Simulated, load_faults
from heteroscale.entities.policy import FeedbackSpec, PolicySpec, ProportionalSpec
from heteroscale.entities.service import FleetSpec, RolePath, ServiceSpec, Stage
from heteroscale.entities.snapshot import Signal
from heteroscale.errors import ConfigError, InvariantViolation, Problem
from heteroscale.journal.recorder import JournalSink, Recorder
from heteroscale.loop import ControlLoop
from heteroscale.performance.model import PerformanceModel
from heteroscale.ports import MetricsSource, Subcluster
from heteroscale.report.figures import span_text
from heteroscale.report.fleet import page, result_json
from heteroscale.sim.checker import Checked
from heteroscale.sim.colocated_peak import find_colocated_peak
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.fault_plan import random_faults
from heteroscale.sim.faults import Faults
from heteroscale.sim.ports import SimMetrics
from heteroscale.sim.result import FleetResult, Search, SimulationResult
from heteroscale.sim.run import Progress, Run, Ticker
from heteroscale.sim.soak import soak_scenario
from heteroscale.sim.speed import performance_model
from heteroscale.sim.static_peak import find_static_peak
from heteroscale.sim.traffic import arrivals_of, planned_duration_s
from heteroscale.sim.world import build_world, settings_of
from heteroscale.workload.arrivals import ArrivalSource

RESULT_FILE = "result.json"
REPORT_FILE = "report.html"
JOURNAL_FOLDER = "journal"
#: everything a run writes; a folder with anything else in it is not ours to replace
_OURS = frozenset({RESULT_FILE, REPORT_FILE, JOURNAL_FOLDER})

#: beyond any queue or latency; a number, since a journal can hold no infinity
_NO_LIMIT = 1e12

#: in place of a file of faults
RANDOM = "random"
#: a policy that runs no loop at all
STATIC = "static"


def _as_written(service: ServiceSpec) -> PolicySpec:
    return service.policy


def _on_decode_tps_alone(service: ServiceSpec) -> PolicySpec:
    # Of the decode role whatever the anchor is: a service is not what its policy's name says else.
    role = next(leaf.path for leaf in service.group.leaves() if leaf.stage is Stage.DECODE)
    return _on_one_signal(service.policy, Signal.TPS, role)


def _on_offered_tps_alone(service: ServiceSpec) -> PolicySpec:
    return _on_one_signal(service.policy, Signal.OFFERED_TPS, service.policy.anchor)


#: name → what it makes of the service's own policy; STATIC beside them
POLICIES: Mapping[str, Callable[[ServiceSpec], PolicySpec]] = {
    "heteroscale": _as_written,
    "decode-tps": _on_decode_tps_alone,
    "offered-tps": _on_offered_tps_alone,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who is told how a simulation comes along."""

    run: Progress | None = None
    #: fixed fleets simulated so far, while the static peak is searched
    search: Callable[[int], None] | None = None


def simulate(
    scenario: Scenario,
    *,
    policy: str = "heteroscale",
    journal: JournalSink | None = None,
    static_peak: bool | None = None,
    check: bool = False,
    watcher: Watcher | None = None,
) -> FleetResult:
    """Return the result of one run of a scenario through the production control loop.

    Args:
        scenario: ready to run (`with_trace`).
        policy: a name in POLICIES, or STATIC.
        journal: where the loop's evidence goes; None = nowhere.
        static_peak: whether to search the fixed fleet to compare with; None = as the scenario says.
        check: hold every tick to the invariants.
        watcher: told of progress.

    Raises:
        ConfigError: the scenario cannot be run; a trace's bad lines come up while it is read.
    """
    watcher = watcher or Watcher()
    run = assemble(scenario, policy=policy, journal=journal, check=check)
    record = run.go(watcher.run)
    wanted = scenario.static_peak.search if static_peak is None else static_peak
    services: dict[str, SimulationResult] = {}
    for alone in scenario.alone():
        name = alone.service.name
        result = _described(alone, policy, record.services[name])
        if wanted and policy != STATIC:
            result = _compared(alone, record.services[name], result, watcher.search)
        services[name] = result
    return FleetResult(services=services)


def _described(alone: Scenario, policy: str, record: ServiceRecord) -> SimulationResult:
    """Return a service's result with what must be known of the run before its figures."""
    notes = _trace_notes(alone.own, record)
    result = dataclasses.replace(record.result, trace_notes=notes)
    if policy == STATIC:
        return result
    held = _held_by_operator(alone.fleet.freeze, alone.service)
    return dataclasses.replace(result, mode=alone.service.mode.value, held_by_operator=held)


def _compared(
    alone: Scenario,
    record: ServiceRecord,
    result: SimulationResult,
    progress: Callable[[int], None] | None,
) -> SimulationResult:
    """Return a service's result beside the smallest fixed fleet that attains as much."""
    peak = find_static_peak(alone, _model_of(alone), record, progress)
    hours = result.simulated_s / 3600
    pool = None
    if alone.static_peak.colocated_token_budget is not None:
        pool = find_colocated_peak(alone, _model_of(alone), record, progress)
    return dataclasses.replace(
        result,
        colocated_peak=pool,
        gpu_hours_static_peak=peak.gpus * hours if peak.search is Search.FOUND else None,
        static_peak=peak.replicas,
        static_peak_search=peak.search,
        static_peak_attainment=peak.attainment,
        policy_attainment=peak.policy_attainment,
    )


def _model_of(alone: Scenario) -> PerformanceModel:
    return performance_model(alone.own.model, alone.own.serving)


def _held_by_operator(freeze: bool, service: ServiceSpec) -> tuple[str, ...]:
    """Return what the operator has stopped or fixed of a service, in words."""
    stopped = {
        "frozen": freeze,
        "scale-out paused": service.pause.scale_out,
        "scale-in paused": service.pause.scale_in,
    }
    pinned = (f"{role} pinned at {units}" for role, units in sorted(service.pin.items()))
    return (*(words for words, is_so in stopped.items() if is_so), *pinned)


def _trace_notes(own: Simulated, record: ServiceRecord) -> tuple[str, ...]:
    """Return what was made of a trace beside playing it as it is, in words."""
    trace = own.traffic.trace
    if trace is None:
        return ()
    unused = own.serving.prefix_cache is not None and record.result.prefix_cache is None
    notes = {
        f"trace at {trace.speedup:g}× speed": trace.speedup != 1.0,
        f"trace repeated {trace.repeat:,} times": trace.repeat != 1,
        f"trace cut at {span_text(record.result.simulated_s)}": record.cut,
        "prefix caches not asked: no request says which blocks it begins with": unused,
    }
    return tuple(note for note, is_so in notes.items() if is_so)


def assemble(
    scenario: Scenario,
    *,
    policy: str = "heteroscale",
    journal: JournalSink | None = None,
    arrivals: Mapping[str, ArrivalSource] | None = None,
    check: bool = False,
    watched: Callable[[Ticker], Ticker] | None = None,
) -> Run:
    """Return a run that is ready to go: the simulated world and the production loop in it.

    Args:
        arrivals: service → its requests, iterated once; None = the scenario's own.
        check: hold every tick to the invariants; one that is broken raises InvariantViolation.
        watched: what looks over the loop's shoulder.
    """
    fleet = with_policy(scenario.fleet, policy)
    parts = {alone.service.name: alone for alone in scenario.alone()}
    if arrivals is None:
        arrivals = {name: arrivals_of(alone) for name, alone in parts.items()}
    models = {name: _model_of(alone) for name, alone in parts.items()}
    world = build_world(scenario, models, arrivals)
    faults: Faults | None = None
    if scenario.faults:
        faults = Faults(scenario.faults, scenario.seed, world.clock, world.plant.rosters)
    loop: Ticker | None = None
    if fleet is not None:
        metrics: MetricsSource = SimMetrics(world.clock, world.windows)
        subclusters: Sequence[Subcluster] = world.subclusters
        if faults is not None:
            metrics, subclusters = faults.metrics(metrics), [*map(faults.link, subclusters)]
        loop = ControlLoop(
            fleet,
            world.clock,
            metrics,
            subclusters,
            MemoryStore(),
            None if journal is None else Recorder(journal),
        )
        if check:
            loop = Checked(loop, fleet, world.plant, world.subclusters)
        loop = loop if watched is None else watched(loop)
    settings = settings_of(scenario, policy, planned_duration_s(scenario))
    return Run(settings, fleet or scenario.fleet, world, loop, faults)


def soaked(seed: int) -> tuple[str, str | None]:
    """Return one line about the run of a seed's random scenario, and the invariant it broke.

    None = every tick held. Anything else that is raised is as much a bug, and comes through.
    """
    scenario = soak_scenario(seed)
    head = f"seed {seed}: {len(scenario.faults)} faults in {scenario.duration_s:g} s"
    try:
        record = assemble(scenario, check=True).go()
    except InvariantViolation as broken:
        return f"{head}, broken", str(broken)
    results = [one.result for one in record.services.values()]
    changes = sum(result.actions for result in results)
    shares = [result.slo_attainment for result in results]
    attained = ", ".join("-" if share is None else f"{share:.3f}" for share in shares)
    return f"{head}, {results[0].ticks} ticks, {changes} changes, attained {attained}", None


def with_faults(scenario: Scenario, faults: str) -> Scenario:
    """Return a scenario with other faults: those of a file, or random ones by its seed.

    Args:
        scenario: ready to run (`with_trace`).
        faults: a path, or RANDOM.

    Raises:
        ConfigError: the file has problems, or a run of unknown length is to have random faults.
    """
    if faults != RANDOM:
        return dataclasses.replace(scenario, faults=load_faults(Path(faults), scenario))
    duration_s = planned_duration_s(scenario)
    if duration_s is None:
        rule = f"must be a file unless the scenario has duration_s, got {faults}"
        raise ConfigError([Problem(path="--faults", rule=rule)])
    return dataclasses.replace(scenario, faults=random_faults(duration_s, scenario.seed))


def with_policy(fleet: FleetSpec, policy: str) -> FleetSpec | None:
    """Return the fleet under a policy by name; None = nothing scales it.

    Raises:
        ConfigError: there is no policy of that name.
    """
    if policy == STATIC:
        return None
    if policy not in POLICIES:
        rule = "must be one of " + ", ".join((*POLICIES, STATIC))
        raise ConfigError([Problem(path="--policy", rule=rule, value=policy)])
    services = tuple(
        dataclasses.replace(service, policy=POLICIES[policy](service)) for service in fleet.services
    )
    return dataclasses.replace(fleet, services=services)


def _on_one_signal(policy: PolicySpec, signal: Signal, role: RolePath) -> PolicySpec:
    """Return a policy that follows one throughput of one role, believes it, and knows no other.

    Its target is the one the service gives for the role's tokens/s, served or offered.
    """
    targets = [
        one.target
        for one in policy.proportional
        if one.role == role and one.signal in (Signal.TPS, Signal.OFFERED_TPS)
    ]
    if not targets:
        rule = f"needs a proportional target in tokens/s for {role}, and there is none"
        raise ConfigError([Problem(path="--policy", rule=rule)])
    only = ProportionalSpec(signal=signal, role=role, target=targets[0])
    trust = dataclasses.replace(
        policy.trust,
        queue_high=_NO_LIMIT,
        queue_low=_NO_LIMIT,
        kv_high=_NO_LIMIT,
        ttft_high=_NO_LIMIT,
    )
    indifferent = tuple(
        FeedbackSpec(signal=latency, tiers=(), low=_NO_LIMIT)
        for latency in (Signal.TTFT, Signal.TBT)
    )
    return dataclasses.replace(policy, proportional=(only,), feedback=indifferent, trust=trust)


def run_into(
    folder: Path,
    scenario: Scenario,
    *,
    policy: str,
    static_peak: bool | None,
    check: bool = False,
    watcher: Watcher,
    now_s: Callable[[], float],
) -> tuple[FleetResult, str]:
    """Run a scenario and leave its result, report and journal in a folder, all or nothing.

    Args:
        folder: made if it is not there; a former run's is replaced.
        now_s: any clock that only moves forward, to measure the run with.

    Returns:
        The result, and its JSON as written.

    Raises:
        ConfigError: as `simulate`, or the folder cannot be written or holds other files.
    """
    with whole_folder(folder, _OURS) as unfinished:
        start_s = now_s()
        journal = JournalFolder(unfinished / JOURNAL_FOLDER, JournalOptions(durable=False))
        with closing(journal):
            result = simulate(
                scenario,
                policy=policy,
                journal=journal,
                static_peak=static_peak,
                check=check,
                watcher=watcher,
            )
        text = result_json(result, now_s() - start_s)
        (unfinished / REPORT_FILE).write_text(page(result), encoding="utf-8")
        (unfinished / RESULT_FILE).write_text(text, encoding="utf-8")
    return result, text
