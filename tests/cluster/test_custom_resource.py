"""The ScaledService on a real API server: what it takes, and what it refuses in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.worlds import made
from tests.unit.config.scaled_services import BAD, GOOD, Resource, resource
from tests.unit.config.texts import REPO

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVICES = "/apis/heteroscale.dev/v1alpha1/namespaces/serving/scaledservices"
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


def definition() -> dict[str, Any]:
    """Return the definition that is shipped."""
    path = REPO / "deploy" / "crds" / "scaledservices.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def install(client: httpx.Client) -> None:
    """Make the API server serve the kind."""
    reply = client.post(CRDS, params={"fieldValidation": "Strict"}, json=definition())
    assert reply.is_success or reply.status_code == httpx.codes.CONFLICT, reply.text
    until(
        lambda: client.get("/apis/heteroscale.dev/v1alpha1/scaledservices").is_success,
        "the kind is served",
    )


@pytest.fixture
def served(plane: ControlPlane) -> Iterator[httpx.Client]:
    with plane.client() as client:
        install(client)
        made(client, "/api/v1/namespaces", {"metadata": {"name": "serving"}})
        yield client


def test_the_definition_is_structural_and_every_rule_of_it_compiles(served: httpx.Client) -> None:
    found = served.get(f"{CRDS}/scaledservices.heteroscale.dev").raise_for_status().json()
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_what_is_right_is_taken(served: httpx.Client, make: Callable[[], Resource]) -> None:
    reply = served.post(SERVICES, params=STRICT, json=make())
    assert reply.status_code == httpx.codes.CREATED, reply.text


def test_the_example_is_taken(served: httpx.Client) -> None:
    example = yaml.safe_load((REPO / "examples" / "scaled-service.yaml").read_text("utf-8"))
    reply = served.post(SERVICES, params=STRICT, json=example)
    assert reply.status_code == httpx.codes.CREATED, reply.text


@pytest.mark.parametrize(("make", "says", "_"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_with_the_rule(
    served: httpx.Client, make: Callable[[], Resource], says: str, _: str
) -> None:
    reply = served.post(SERVICES, params=STRICT, json=make())
    assert reply.status_code == httpx.codes.UNPROCESSABLE_ENTITY, reply.text
    assert says in reply.json()["message"]


def test_a_name_that_no_service_may_have_is_refused(served: httpx.Client) -> None:
    named = resource()
    named["metadata"]["name"] = "chat.large"
    reply = served.post(SERVICES, params=STRICT, json=named)
    assert "metadata.name must be a DNS label" in reply.json()["message"]


def test_a_key_that_nobody_knows_is_refused_where_strictness_is_asked_for(
    served: httpx.Client,
) -> None:
    reply = served.post(SERVICES, params=STRICT, json=resource(polcy={}))
    assert 'unknown field "spec.polcy"' in reply.json()["message"]
