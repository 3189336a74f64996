from __future__ import annotations

from heteroscale.entities.placement import Grant, NoFit
from heteroscale.entities.reasons import describe
from heteroscale.prescheduler.explain import explain_placement


def test_grants_and_remainders_are_told_in_plain_words() -> None:
    anywhere = Grant(
        service="chat",
        group="g0",
        role="decode",
        accelerator="H20",
        domain=(),
        subcluster="east",
        replicas=2,
    )
    missed = NoFit(
        service="chat",
        missing={"prefill": 3, "decode": 1},
        causes={"wrong accelerator": 4, "full": 7, "unhealthy": 4},
    )
    nowhere = NoFit(service="chat", missing={"decode": 1}, causes={})
    assert [describe(reason) for reason in explain_placement([anywhere], [missed, nowhere])] == [
        "2 decode on H20 placed in group g0 at east",
        "1 units of decode fit nowhere; 15 nodes: 7 full, 4 unhealthy, 4 wrong accelerator",
        "3 units of prefill fit nowhere; 15 nodes: 7 full, 4 unhealthy, 4 wrong accelerator",
        "1 units of decode fit nowhere; no nodes at all",
    ]
