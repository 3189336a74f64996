from __future__ import annotations

from heteroscale.entities.finding import Finding


def test_a_finding_is_told_with_what_mends_it() -> None:
    found = Finding(where="prometheus main", what="up has no role", mend="relabel it")
    assert str(found) == "prometheus main: up has no role\n    → relabel it"
