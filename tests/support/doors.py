# SPDX-License-Identifier: Apache-2.0
"""Every way into the server: its routes as it describes them, and those that it does not tell.

For each a valid request is known, so that a request which is wrong in one thing alone reaches the
code behind the door.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nibabel
import numpy as np
from support.hostile import Hostile, valid_form
from support.raw_http import RawRequest

IMAGE_SHAPE_IJK = (24, 24, 6)
MODEL = "medreasoner"
QUESTION = "Which organ makes bile?"
_WRONG_PASSWORD = {"password": "not the token"}  # pragma: allowlist secret - made up
_METHODS = {"get", "head", "put", "post", "delete", "patch"}
_SAMPLES = {"string": "x", "integer": "1", "number": "1", "boolean": "false", "array": "x"}


def nifti(seed: int, shape_ijk: tuple[int, int, int] = IMAGE_SHAPE_IJK) -> bytes:
    """A small compressed image, another one for each seed."""
    values = np.random.default_rng(seed).normal(0, 200, shape_ijk).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 5.0, 1.0]))
    return gzip.compress(image.to_bytes(), mtime=0)


def nifti_mask(shape_ijk: tuple[int, int, int] = IMAGE_SHAPE_IJK) -> bytes:
    """A label on the grid of :func:`nifti`."""
    values = np.zeros(shape_ijk, np.uint8)
    values[4:12, 4:12, 2:4] = 1
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 5.0, 1.0]))
    return gzip.compress(image.to_bytes(), mtime=0)


def write_studies(folder: Path, count: int = 3) -> list[str]:
    """Images in a folder of studies; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"case{number}" for number in range(count)]
    for number, name in enumerate(names):
        (folder / f"{name}.nii.gz").write_bytes(nifti(number))
    return names


@dataclass(frozen=True)
class Known:
    """What a running server knows, so that requests can be about it."""

    image: str
    study: str = "1.2.3"
    inference_id: str = "none"
    session_id: str = "none"

    @classmethod
    def of(
        cls, url: str, image: str, headers: Mapping[str, str], study: str | None = None
    ) -> Known:
        """Ask a question and open a session; where the server refuses, their ids are made up."""
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            asked = client.post(
                f"/infer/{MODEL}",
                params={"image": image, "output": "json"},
                data={"params": json.dumps({"query": QUESTION, "slice": 2})},
            )
            opened = client.put("/session/", files={"files": ("sent.nii.gz", nifti(50))})
        record = asked.json().get("medreasoner", {}) if asked.is_success else {}
        session = opened.json() if opened.is_success else {}
        return cls(
            image, study or image, record.get("inference_id", "none"),
            session.get("session_id", "none"),
        )  # fmt: skip


@dataclass(frozen=True)
class Door:
    """A method and a path with a valid request; paths hold their parameters in braces."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def has_form(self) -> bool:
        """Whether the body is a form."""
        return bool(self.fields or self.files)

    def target(self, replaced: Mapping[str, str] | None = None, query: str | None = None) -> str:
        """Path and query, some path parameters ``replaced`` by what is sent as it is."""
        path = self.path
        for key, value in self.parameters.items():
            text = (replaced or {}).get(key, quote(value, safe=""))
            path = path.replace(f"{{{key}}}", text)
        if query is None:
            query = "&".join(f"{key}={quote(text, safe='')}" for key, text in self.query.items())
        return f"{path}?{query}" if query else path

    def valid(self, headers: Mapping[str, str]) -> RawRequest:
        """The valid request."""
        body, kind = self._content()
        sent = [*headers.items(), *([("Content-Type", kind)] if kind else [])]
        return RawRequest(self.method, self.target(), tuple(sent), body, "valid")

    def mutant(self, hostile: Hostile, headers: Mapping[str, str]) -> RawRequest:
        """A request that differs from the valid one in one thing."""
        draw = hostile.random.random()
        # Half of the requests try the body, where there is one.
        if draw < 0.5 and (self.json is not None or self.has_form):
            return self._with_body(hostile, headers)
        if draw < 0.7 and self.parameters:
            return self._with_parameter(hostile, headers)
        if draw < 0.9:
            what, query = hostile.query(self.query)
            return self._changed(headers, what, target=self.target(query=query))
        if draw < 0.95:
            what, odd = hostile.headers()
            return self._changed(headers, what, extra=odd)
        return self._with_framing(hostile, headers)

    def _with_body(self, hostile: Hostile, headers: Mapping[str, str]) -> RawRequest:
        if self.json is not None:
            what, body = hostile.json_body(self.json)
            kind = hostile.json_type()
        else:
            form = hostile.form(self.fields, self.files)
            what, body, kind = form.what, form.body(), form.content_type
        sent = (*headers.items(), ("Content-Type", kind))
        return RawRequest(self.method, self.target(), sent, body, what)

    def _with_parameter(self, hostile: Hostile, headers: Mapping[str, str]) -> RawRequest:
        key = hostile.random.choice([*self.parameters])
        what, text = hostile.in_address()
        target = self.target({key: text.partition("?")[0]})
        return self._changed(headers, f"path parameter {key!r}: {what}", target=target)

    def _with_framing(self, hostile: Hostile, headers: Mapping[str, str]) -> RawRequest:
        """Requests that are no proper HTTP/1.1."""
        valid = self.valid(headers)
        size = len(valid.body)
        what, extra = hostile.random.choice(
            (
                ("a body that is longer than sent", (("Content-Length", str(size + 50)),)),
                ("a negative length", (("Content-Length", "-1"),)),
                ("a length that is no number", (("Content-Length", "x"),)),
                ("two lengths", (("Content-Length", str(size)), ("Content-Length", "3"))),
                ("broken chunks", (("Transfer-Encoding", "chunked"),)),
                ("both framings", (("Transfer-Encoding", "chunked"), ("Content-Length", "4"))),
                ("an unknown transfer encoding", (("Transfer-Encoding", "gzip"),)),
                ("a header name with blanks", (("X Odd", "1"),)),
                ("a header with NUL", (("X-Odd", "a\0b"),)),
                ("a header of 70,000 letters", (("X-Odd", "a" * 70_000),)),
                ("1,000 headers", tuple((f"X-{number}", "a") for number in range(1_000))),
            )
        )
        sent = (*valid.headers, *extra)
        return RawRequest(
            self.method, valid.target, sent, valid.body, what, is_framed=False, awaits_more=True
        )

    def _changed(
        self,
        headers: Mapping[str, str],
        what: str,
        target: str | None = None,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> RawRequest:
        valid = self.valid({k: v for k, v in headers.items() if k not in dict(extra)})
        sent = (*valid.headers, *extra)
        return RawRequest(self.method, target or valid.target, sent, valid.body, what)

    def _content(self) -> tuple[bytes, str]:
        if self.json is not None:
            return json.dumps(dict(self.json)).encode(), "application/json"
        if self.has_form:
            form = valid_form(self.fields, self.files)
            return form.body(), form.content_type
        return b"", ""


def described_doors(description: Mapping[str, Any], known: Known) -> list[Door]:
    """The doors of an OpenAPI description; DELETE last, as it takes away what others ask about."""
    valid = _valid_doors(known)
    found = []
    for path, operations in description["paths"].items():
        for method in _METHODS & operations.keys():
            made = _door_of(method.upper(), path, operations[method], description, known)
            found.append(valid.get(made.name, made))
    return sorted(found, key=lambda door: (door.method == "DELETE", door.path, door.method))


def _door_of(
    method: str, path: str, operation: Any, description: Mapping[str, Any], known: Known
) -> Door:
    """A door of which nothing is known but its description; its values are samples by type."""
    ids = {"image": known.image, "study": known.study, "inference_id": known.inference_id,
           "session_id": known.session_id, "model": MODEL, "id": known.image}  # fmt: skip
    places: dict[str, dict[str, str]] = {"path": {}, "query": {}}
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        wanted = name in ids or parameter.get("required") or parameter["in"] == "path"
        if wanted and parameter["in"] in places:
            kind = parameter.get("schema", {}).get("type", "string")
            places[parameter["in"]][name] = ids.get(name, _SAMPLES.get(kind, "x"))
    content = operation.get("requestBody", {}).get("content", {})
    values = _samples_of(content, description)
    json_body = {} if "application/json" in content else None
    return Door(
        method, path, places["path"], places["query"], json_body,
        {key: value for key, value in values.items() if isinstance(value, str)},
        {key: value for key, value in values.items() if isinstance(value, tuple)},
    )  # fmt: skip


def _samples_of(content: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    form = next((value for kind, value in content.items() if "form" in kind), None)
    if form is None:
        return {}
    schema = form.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = description.get("components", {}).get("schemas", {}).get(name, schema)
    is_file = ("binary", "contentMediaType")
    return {
        key: ("x.nii.gz", nifti(51)) if any(word in json.dumps(kind) for word in is_file) else "{}"
        for key, kind in schema.get("properties", {}).items()
    }


def hidden_doors(known: Known) -> list[Door]:
    """Doors that no description tells of: pages, the archive's, those left out on purpose."""
    paths = (
        "/", "/docs", "/redoc", "/openapi.json", "/static/", "/ohif", "/ohif/", "/ohif/index.html",
        "/ohif/app-config.js", "/medreasoner/studies", "/medreasoner/studies/image",
        "/medreasoner/studies/thumbnail", "/medreasoner/studies/overlay",
        "/medreasoner/login", "/medreasoner/logout", "/auth/", "/auth/token",
        "/auth/token/valid", "/token", "/train/", "/train", "/datastore/",
        "/datastore/updatelabelinfo", "/datastore/dataset", "/reload", "/logs/", "/logs/gpu",
        "/session/", "/batch/infer", "/scoring/", "/infer/wsi/x", "/infer/wsi_v2/x", "/model/x",
        "/proxy/dicom/servers", "/proxy/dicom//servers/inner/get", "/proxy/dicom/qido/studies",
        "/proxy/dicom/wado/studies/1.2.3/metadata", "/proxy/dicom/stow/studies",
        "/proxy/dicom/wado/%2e%2e/system", "/proxy/dicom/qido/patients", "/medreasoner/streams/x",
        "/medreasoner/streams", "/medreasoner/masks/x", "/no/such/route", "/favicon.ico",
        "//", "/%00", "/..%2f..%2fetc%2fpasswd", "/\xff", "/info/../info/", "/info//",
    )  # fmt: skip
    valid = _valid_doors(known)
    doors = []
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE"):
            plain = Door(method, path, query={"image": known.image}, json={"query": QUESTION})
            doors.append(valid.get(f"{method} {path}", plain))
    doors += [Door(method, "/info/") for method in ("PATCH", "OPTIONS", "TRACE", "QUERY", "GET")]
    return sorted(doors, key=lambda door: door.method == "DELETE")


def _valid_doors(known: Known) -> dict[str, Door]:
    """Doors whose body or query says more than a description can, by name."""
    image, infer = {"image": known.image}, {
        "query": QUESTION, "plane": "axial", "slice": 2, "samples": 1, "seed": 3,
        "propagate": False, "window": "soft tissue", "foreground": [[5, 5, 2]],
        "background": [[1, 1, 2]], "result_extension": ".nrrd", "result_dtype": "uint8",
        "result_compress": True, "label_info": [{"name": "a"}], "client_id": "c",
    }  # fmt: skip
    ask = {"query": QUESTION, "plane": "axial", "slice": 2, "samples": 1, "seed": 3,
           "propagate": False, "foreground": [[5, 5, 2]]}  # fmt: skip
    segment = {"plane": "axial", "position": [-10.0, -10.0, 10.0], "propagate": False,
               "box": [[-8.0, -8.0, 10.0], [-24.0, -24.0, 10.0]],
               "inside": [[-10.0, -10.0, 10.0]], "outside": [[-40.0, -40.0, 10.0]],
               "points": [{"position": [-12.0, -10.0, 10.0], "inside": True, "new": True}],
               "last": {"shape_ijk": list(IMAGE_SHAPE_IJK), "runs": "1300,12,2144"}}  # fmt: skip
    label = {"inference_id": known.inference_id, "label_info": [{"name": "a", "idx": 1}],
             "client_id": "c"}  # fmt: skip
    record = {"inference_id": known.inference_id}
    session, model = {"session_id": known.session_id}, {"model": MODEL}
    inferences = "/medreasoner/inferences"
    doors = (
        Door("POST", "/infer/{model}", model, {**image, "output": "json"},
             fields={"params": infer}),
        Door("PUT", "/datastore/label", query={**image, "tag": "final"},
             fields={"params": label}, files={"label": ("label.nii.gz", nifti_mask())}),
        Door("GET", "/datastore/label", query={"label": known.image, "tag": "final"}),
        Door("HEAD", "/datastore/label", query={**image, "tag": "final"}),
        Door("DELETE", "/datastore/label", query={"id": known.image, "tag": "final"}),
        Door("PUT", "/datastore/image", query={"image": "added"},
             fields={"params": {"note": "x"}}, files={"file": ("added.nii.gz", nifti(52))}),
        Door("PUT", "/datastore/", query={"image": "added"},
             fields={"params": {"note": "x"}}, files={"file": ("added.nii.gz", nifti(52))}),
        Door("PUT", "/datastore/image/info", query=image,
             fields={"info": {"note": "x", "status": "a", "tags": ["b"]}}),
        Door("PUT", "/datastore/label/info", query={"label": known.image, "tag": "final"},
             fields={"info": {"note": "x", "segments": ["a"]}}),
        Door("PUT", "/datastore/updatelabelinfo", query={"label": known.image, "tag": "final"},
             fields={"params": {"note": "x"}}),
        Door("GET", "/datastore/", query={"output": "all"}),
        Door("GET", inferences, query={**image, "limit": "10"}),
        Door("GET", f"{inferences}/export", query={"study": known.study}),
        Door("DELETE", inferences, query={"study": "1.2.3.4"}),
        Door("PUT", f"{inferences}/{{inference_id}}/decision", record,
             json={"outcome": "rejected", "reason": "It shows another organ."}),
        Door("GET", "/medreasoner/history", query={"study": known.study}),
        Door("POST", "/medreasoner/questions", json={"query": QUESTION}),
        Door("GET", "/medreasoner/priors", query=image),
        Door("POST", "/medreasoner/priors", query=image,
             json={**ask, "prior": "added", "same_patient": True, "same_space": True}),
        Door("POST", "/medreasoner/streams/ask", query=image, json=ask),
        Door("POST", "/medreasoner/streams/segment", query=image, json=segment),
        Door("DELETE", "/medreasoner/streams/{stream_id}", {"stream_id": "a" * 32}),
        Door("POST", "/train/{model}", model, {"run_sync": "false"},
             json={"config": "embedded", "tuning": "as configured", "method": "as configured",
                   "steps": "1", "learning_rate": "", "seed": "", "val_share": 0.2,
                   "max_slices": 8, "fresh": False, "client_id": "c"}),
        Door("POST", "/batch/infer/{model}", model, {"images": "unlabeled"},
             json={"query": QUESTION, "slice": 2, "client_id": "c"}),
        Door("POST", "/activelearning/{strategy}", {"strategy": "random"},
             json={"client_id": "c", "label_tag": "final", "labels": ["a"]}),
        Door("POST", "/scoring/{method}", {"method": "dice"}, json={"client_id": "c"}),
        Door("PUT", "/session/", query={"uncompress": "false", "expiry": "60"},
             files={"files": ("sent.nii.gz", nifti(53))}),
        Door("GET", "/session/{session_id}", session, {"update_ts": "true", "image": "true"}),
        Door("DELETE", "/session/{session_id}", session),
        Door("POST", "/auth/token", fields={"username": "ann", **_WRONG_PASSWORD}),
        Door("POST", "/medreasoner/login", fields={"name": "ann", "token": "not the token"}),
        Door("GET", "/logs/", query={"lines": "5", "text": "true"}),
    )  # fmt: skip
    return {door.name: door for door in doors}
