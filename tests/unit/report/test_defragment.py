"""Advice on leaving scarce subgroups, as an operator reads it and as a program does."""

from __future__ import annotations

from heteroscale.prescheduler.defragment import Defragmentation
from heteroscale.report.defragment import advice_lines, advice_values
from tests.unit.prescheduler.test_defragment import MIXED, PLAIN, advised, group

FOUND = advised([*MIXED, *PLAIN], group("a", "b"))


def test_who_could_move_what_it_frees_and_where_it_would_stand() -> None:
    assert advice_lines(FOUND) == [
        "Groups that could leave high subgroups to others:",
        "chat: group g0 (1 decode on H20, 1 prefill on H20) would free 16 H20 at east/h1/p1",
        "New groups that would take their place in less scarce subgroups, all at once:",
        "chat: 1 decode on H20 placed in group g1 at east/h3 (g)",
        "chat: 1 prefill on H20 placed in group g1 at east/h3 (h)",
    ]


def test_nothing_to_advise_is_said() -> None:
    told = ["No group in a scarce subgroup would fit one that is less scarce."]
    assert advice_lines(Defragmentation()) == told
    assert advice_values(Defragmentation()) == {"moves": [], "moved_to": []}


def test_as_values() -> None:
    assert advice_values(FOUND) == {
        "moves": [
            {
                "service": "chat",
                "group": "g0",
                "subcluster": "east",
                "subgroup": "high",
                "instances": ["g0/decode/b", "g0/prefill/a"],
                "freed": [{"domain": ["east", "h1", "p1"], "accelerator": "H20", "gpus": 16}],
            }
        ],
        "moved_to": [
            {
                "service": "chat",
                "group": "g1",
                "role": role,
                "accelerator": "H20",
                "domain": ["east", "h3"],
                "replicas": 1,
                "nodes": [[name]],
                "price_per_hour": None,
            }
            for role, name in (("decode", "g"), ("prefill", "h"))
        ],
    }
