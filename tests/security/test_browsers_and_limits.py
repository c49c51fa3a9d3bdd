# SPDX-License-Identifier: Apache-2.0
"""Pages of other sites, response headers, and how much a client may send."""

from __future__ import annotations

import pytest

VIEWER = "https://viewer.hospital.example"
EVIL = "https://evil.example"


def test_no_foreign_origin_is_reflected(serve) -> None:
    """Any origin was answered ``access-control-allow-origin: <it>`` with credentials."""
    response = serve().get("/info/", headers={"Origin": EVIL})
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-credentials" not in response.headers


def test_only_configured_origins_may_call(serve) -> None:
    client = serve(allowed_origins=VIEWER)
    preflight = {"Access-Control-Request-Method": "PUT"}
    allowed = client.options("/datastore/label", headers={"Origin": VIEWER, **preflight})
    assert allowed.headers["access-control-allow-origin"] == VIEWER
    refused = client.options("/datastore/label", headers={"Origin": EVIL, **preflight})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:9999"])
def test_a_form_on_another_site_changes_nothing(serve, origin) -> None:
    """A page anywhere could post a form to the reader's own machine; CORS does not stop that."""
    response = serve().post("/train/", headers={"Origin": origin})
    assert response.status_code == 403


def test_the_servers_own_pages_may_post(serve) -> None:
    response = serve().post(
        "/infer/none", headers={"Origin": "http://127.0.0.1:8000"}, data={"params": "{}"}
    )
    assert response.status_code == 404


def test_a_name_made_to_point_at_this_machine_is_refused(serve) -> None:
    """A page whose name is rebound to 127.0.0.1 was answered like one of the server's own."""
    assert serve("http://rebound.evil.example:8000").get("/info/").status_code == 400
    allowed = serve("http://reading-room:8000", allowed_hosts="reading-room")
    assert allowed.get("/info/").status_code == 200


def test_a_body_beyond_the_limit_is_refused_also_without_a_length(serve) -> None:
    """Bodies of any size were read into memory or onto the disk."""
    client = serve(max_body_kb=1, max_upload_mb=1)
    assert client.post("/train/", content=b" " * 2000).status_code == 413
    assert client.post("/train/", content=iter([b" " * 2000])).status_code == 413
    big = {"file": ("b.nii.gz", b" " * (1 << 21))}
    assert client.put("/datastore/?image=big", files=big).status_code == 413
    assert client.get("/datastore/").json()["total"] == 1


def test_requests_that_change_something_are_counted_and_reading_is_not(serve) -> None:
    """There was no limit."""
    client = serve(requests_per_minute=3)
    statuses = [client.post("/infer/none").status_code for _ in range(4)]
    assert statuses == [404, 404, 404, 429]
    assert all(client.get("/info/").status_code == 200 for _ in range(5))


@pytest.mark.parametrize("path", ["/info/", "/ohif/index.html", "/nowhere", "/reload"])
def test_every_answer_carries_the_headers(serve, path) -> None:
    """There was none of them, so any page could frame the viewer."""
    headers = serve().get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["object-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"]
    assert "http" not in headers["content-security-policy"]


def test_a_portal_may_be_allowed_to_frame_the_viewer(serve) -> None:
    policy = serve(frame_ancestors=VIEWER).get("/info/").headers["content-security-policy"]
    assert f"frame-ancestors {VIEWER}" in policy


def test_answers_about_patients_are_not_cached(serve) -> None:
    assert serve().get("/datastore/?output=all").headers["cache-control"] == "no-store"
