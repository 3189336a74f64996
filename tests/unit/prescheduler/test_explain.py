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
        nodes=(("n0",), ("n1", "n2")),
    )
    missed = NoFit(
        service="chat",
        missing={"prefill": 3, "decode": 1},
        causes={"wrong accelerator": 4, "full": 7, "unhealthy": 4},
    )
    nowhere = NoFit(service="chat", missing={"decode": 1}, causes={})
    assert [describe(reason) for reason in explain_placement([anywhere], [missed, nowhere])] == [
        "2 decode on H20 placed in group g0 at east (n0, n1+n2)",
        "1 units of decode fit nowhere; 15 nodes: 7 full, 4 unhealthy, 4 wrong accelerator",
        "3 units of prefill fit nowhere; 15 nodes: 7 full, 4 unhealthy, 4 wrong accelerator",
        "1 units of decode fit nowhere; no nodes at all",
    ]


def test_a_price_is_told_and_not_every_node_of_many() -> None:
    many = Grant(
        service="chat",
        group="g0",
        role="decode",
        accelerator="H20",
        domain=("east", "a"),
        subcluster="east",
        replicas=8,
        nodes=tuple((f"n{number}",) for number in range(8)),
        price_per_hour=1234.5,
    )
    (reason,) = explain_placement([many], [])
    where = "8 decode on H20 placed in group g0 at east/a"
    assert describe(reason) == f"{where} (n0, n1, n2, n3, n4, n5 and 2 more; 1,234.50 an hour)"
