"""What every store promises. A new one is one line in STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heteroscale.adapters.file_store import FileStore
from heteroscale.adapters.memory import MemoryStore
from heteroscale.entities.state import (
    FeedbackState,
    FleetState,
    MixPoint,
    PendingAction,
    ServiceState,
)
from heteroscale.errors import ConfigError
from heteroscale.ports import Store
from tests.cluster.memories import leaders

#: each returns a way to open the same store again, as after a restart
STORES: dict[str, Callable[[Path], Callable[[], Store]]] = {
    "memory": lambda _: _opened(MemoryStore()),
    "file": lambda folder: lambda: FileStore(folder / "deep" / "state.json"),
}


def _opened(store: Store) -> Callable[[], Store]:
    return lambda: store


@pytest.fixture(params=[*sorted(STORES), "kubernetes"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    if request.param in STORES:
        yield STORES[request.param](tmp_path)
        return
    with leaders(request.getfixturevalue("plane"), request.node.name) as store_of:
        yield lambda: store_of("after a restart")


FULL = FleetState(
    services={
        "chat": ServiceState(
            window=((10.0, 7.5), (20.0, 6.25)),
            window_since_s=10.0,
            window_fed_s=20.0,
            scale_out_until_s=1_700_000_180.0,
            scale_in_until_s=1_700_000_600.1,
            restores=2,
            feedback={"ttft_s": FeedbackState(step_to=8.0, step_until_s=30.0, low_since_s=None)},
            ratio={"prefill": 9, "decode": 7},
            ratio_until_s=40.0,
            mix=(MixPoint(at_s=1.0, samples=2, loads_tps={"prefill": 9.5, "decode": 7.0}),),
            pending=(
                PendingAction(
                    action_id="a1",
                    sent_s=19.0,
                    out_until_before_s=0.0,
                    in_until_before_s=0.5,
                    targets=("g/decode",),
                    versions=("7",),
                ),
            ),
            replicas_seen={"prefill": 9, "decode": 7},
            observed_s={"uid-1": 12.5},
            unknown_since_s=3.0,
        ),
        "code": ServiceState(),
    },
    left_gpus=((15.0, 8), (16.0, 16)),
)


def test_a_new_store_is_empty(reopen: Callable[[], Store]) -> None:
    assert reopen().load() == FleetState()


def test_what_was_saved_is_loaded_after_a_restart(reopen: Callable[[], Store]) -> None:
    reopen().save(FULL, frozenset({"chat"}))
    assert reopen().load() == FULL


def test_the_last_save_wins(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.save(FULL, frozenset({"chat"}))
    store.save(FleetState(left_gpus=((1.0, 1),)), frozenset({"chat"}))
    assert reopen().load() == FleetState(left_gpus=((1.0, 1),))


def test_the_acting_services_survive_a_crash(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.save(FleetState(services={"code": ServiceState()}), frozenset())
    store.save(FULL, frozenset({"chat"}))
    assert reopen().load().services["chat"] == FULL.services["chat"]


class TestFileStore:
    """What only a file can get wrong."""

    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            (b"", "is damaged"),
            (b'{"version":1,"state":{"services":{"chat":', "is damaged"),
            (b'{"version":1,"state":{"services":[]}}', "is damaged"),
            (b'{"version":2,"state":{}}', "must be version 1"),
        ],
        ids=["empty", "cut short", "another shape", "another version"],
    )
    def test_a_damaged_file_is_refused_and_kept(
        self, tmp_path: Path, content: bytes, rule: str
    ) -> None:
        path = tmp_path / "state.json"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            FileStore(path).load()
        (problem,) = caught.value.problems
        assert problem.rule.startswith(rule)
        assert problem.file == str(path)
        assert path.read_bytes() == content

    def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "state.json"
        FileStore(path).save(FULL, frozenset())
        blocker = tmp_path / ".state.json.unfinished"
        blocker.mkdir()
        with pytest.raises(ConfigError, match=r"store: cannot be written"):
            FileStore(path).save(FleetState(), frozenset())
        blocker.rmdir()
        assert FileStore(path).load() == FULL
        assert [one.name for one in tmp_path.iterdir()] == ["state.json"]

    def test_a_folder_in_its_place_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            FileStore(tmp_path).load()

    def test_equal_states_give_equal_bytes(self, tmp_path: Path) -> None:
        turned = FleetState(
            services=dict(reversed(list(FULL.services.items()))), left_gpus=FULL.left_gpus
        )
        FileStore(tmp_path / "one").save(FULL, frozenset())
        FileStore(tmp_path / "two").save(turned, frozenset({"chat"}))
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
