# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every route that is served, walked with every role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from starlette.routing import BaseRoute

from monailabel_app.security.roles import ALLOWED, Action, Role, least_role
from monailabel_app.web.routes import install
from monailabel_app.web.routes.typed_errors import TypedErrorRoute

TOKENS = {role: f"{role.value}-{'x' * 24}" for role in Role}
PUBLIC = None
READER, REVIEWER, ADMINISTRATOR = Role.READER, Role.REVIEWER, Role.ADMINISTRATOR
# Literal on purpose: a new route, or another role for an old one, has to be stated here as well.
ROUTES = {
    ("GET", "/"): READER,
    ("GET", "/favicon.ico"): READER,
    ("GET", "/openapi.json"): READER,
    ("HEAD", "/openapi.json"): READER,
    ("GET", "/ohif/app-config.js"): READER,
    ("GET", "/ohif/{path:path}"): READER,
    ("GET", "/info/"): READER,
    ("POST", "/infer/{model}"): READER,
    ("POST", "/activelearning/{strategy}"): READER,
    ("GET", "/datastore/"): READER,
    ("GET", "/datastore/image"): READER,
    ("HEAD", "/datastore/image"): READER,
    ("GET", "/datastore/image/info"): READER,
    ("GET", "/datastore/label"): READER,
    ("HEAD", "/datastore/label"): READER,
    ("GET", "/datastore/label/info"): READER,
    ("PUT", "/datastore/"): READER,
    ("PUT", "/datastore/image"): READER,
    ("PUT", "/datastore/image/info"): READER,
    ("PUT", "/datastore/label"): READER,
    ("PUT", "/datastore/label/info"): READER,
    ("PUT", "/datastore/updatelabelinfo"): READER,
    ("GET", "/datastore/dataset"): REVIEWER,
    ("DELETE", "/datastore/"): ADMINISTRATOR,
    ("DELETE", "/datastore/image"): ADMINISTRATOR,
    ("DELETE", "/datastore/label"): ADMINISTRATOR,
    ("PUT", "/session/"): READER,
    ("GET", "/session/{session_id}"): READER,
    ("DELETE", "/session/{session_id}"): READER,
    ("GET", "/medreasoner/inferences"): READER,
    ("DELETE", "/medreasoner/inferences"): ADMINISTRATOR,
    ("GET", "/medreasoner/inferences/export"): REVIEWER,
    ("GET", "/medreasoner/inferences/{inference_id}"): READER,
    ("GET", "/medreasoner/inferences/{inference_id}/mask"): READER,
    ("PUT", "/medreasoner/inferences/{inference_id}/decision"): READER,
    ("GET", "/medreasoner/history"): READER,
    ("GET", "/medreasoner/history/{inference_id}/mask"): READER,
    ("GET", "/medreasoner/masks/{inference_id}"): READER,
    ("GET", "/medreasoner/doubts/{inference_id}"): READER,
    ("GET", "/medreasoner/studies"): READER,
    ("GET", "/medreasoner/studies/image"): READER,
    ("POST", "/medreasoner/studies/image"): READER,
    ("GET", "/medreasoner/studies/thumbnail"): READER,
    ("GET", "/medreasoner/studies/overlay"): READER,
    ("POST", "/medreasoner/questions"): READER,
    ("GET", "/medreasoner/priors"): READER,
    ("POST", "/medreasoner/priors"): READER,
    ("GET", "/medreasoner/priors/{inference_id}"): READER,
    ("GET", "/medreasoner/priors/{inference_id}/picture"): READER,
    ("POST", "/medreasoner/priors/{inference_id}/report"): READER,
    ("POST", "/medreasoner/streams/ask"): READER,
    ("POST", "/medreasoner/streams/segment"): READER,
    ("DELETE", "/medreasoner/streams/{stream_id}"): READER,
    ("GET", "/train/"): READER,
    ("POST", "/train/"): ADMINISTRATOR,
    ("POST", "/train/{model}"): ADMINISTRATOR,
    ("DELETE", "/train/"): ADMINISTRATOR,
    ("GET", "/batch/infer"): READER,
    ("POST", "/batch/infer/{model}"): ADMINISTRATOR,
    ("DELETE", "/batch/infer"): ADMINISTRATOR,
    ("GET", "/logs/"): ADMINISTRATOR,
    ("GET", "/medreasoner/audit"): ADMINISTRATOR,
    ("POST", "/reload"): ADMINISTRATOR,
    ("GET", "/proxy/dicom/{service}/{path:path}"): READER,
    ("POST", "/proxy/dicom/{service}/{path:path}"): READER,
    ("GET", "/auth/"): PUBLIC,
    ("POST", "/auth/token"): PUBLIC,
    ("GET", "/auth/token/valid"): READER,
    ("GET", "/medreasoner/login"): PUBLIC,
    ("POST", "/medreasoner/login"): PUBLIC,
    ("POST", "/medreasoner/logout"): READER,
    ("GET", "/metrics"): READER,
    ("GET", "/healthz"): PUBLIC,
    ("MOUNT", "/medreasoner/ohif"): READER,
}


# Answer 404 to everybody.
NOTHING = {"/proxy", "/proxy/{rest:path}"}


def served(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route that the server has, however deep it was included."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from served(inner.routes, prefix + route.include_context.prefix)
        elif getattr(route, "path", None) is None or prefix + route.path in NOTHING:
            continue  # the guards, which only refuse, have no path
        elif getattr(route, "methods", None):
            yield from ((method, prefix + route.path) for method in route.methods)
        else:
            yield "MOUNT", prefix + route.path


@pytest.fixture
def client(serve, tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("".join(f"{r.value}:{token}:{r.value}\n" for r, token in TOKENS.items()))
    return serve(token_file=tokens, admin_routes=True, requests_per_minute=100_000)


def test_every_route_that_is_served_states_its_role(client) -> None:
    assert set(served(client.app.router.routes)) == set(ROUTES)


@pytest.mark.parametrize("router", [*install._ROUTERS, *install._ADMINISTRATION])
def test_every_route_bounds_its_body_and_types_its_faults(router) -> None:
    assert router.routes
    assert all(isinstance(route, TypedErrorRoute) for route in router.routes)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("method", "path"), [key for key in ROUTES if key[0] != "MOUNT"])
def test_a_route_lets_exactly_the_stated_roles_through(client, method, path, role) -> None:
    address = path.replace("{path:path}", "x").replace("{", "").replace("}", "")
    headers = {"Authorization": f"Bearer {TOKENS[role]}"}
    answer = client.request(method, address, headers=headers, follow_redirects=False)
    least = ROUTES[method, path]
    order = list(Role)
    allowed = least is PUBLIC or order.index(role) >= order.index(least)
    refused = answer.status_code == 403 and "role" in answer.text
    assert refused is not allowed, (answer.status_code, answer.text[:200])


@pytest.mark.parametrize(("method", "path"), [key for key in ROUTES if key[0] != "MOUNT"])
def test_without_a_login_only_the_login_answers(client, method, path) -> None:
    address = path.replace("{path:path}", "x").replace("{", "").replace("}", "")
    answer = client.request(method, address, follow_redirects=False)
    assert (answer.status_code == 401) is (ROUTES[method, path] is not PUBLIC) or (
        path == "/auth/token"
    )


def test_each_role_may_what_the_lesser_one_may() -> None:
    assert ALLOWED[READER] < ALLOWED[REVIEWER] < ALLOWED[ADMINISTRATOR] == frozenset(Action)
    assert least_role(Action.REVIEW) is REVIEWER
    assert least_role(Action.TRAIN) is ADMINISTRATOR
