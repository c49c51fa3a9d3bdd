# SPDX-License-Identifier: Apache-2.0
"""The server's routes over ``http.client``.

Not ``urllib.request``: it would follow redirects with the token to another host, and send images
through a proxy that the environment names.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Union
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from .doubt import Doubt, read_doubt
from .errors import NotFoundError, ServerError
from .events import Event, read_events
from .masks import Mask, read_mask, runs_text, to_nrrd
from .multipart import FilePart, encode

ASK_MODEL = "medreasoner"
SILENCE_S = 60.0  # the server says something at least every 15 s
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Values = Mapping[str, Any]
Body = Union[bytes, BinaryIO, None]
_NOTHING: Values = MappingProxyType({})


@dataclass(frozen=True)
class Server:
    """Where the server is, and how one logs in.

    ``certificates`` is a PEM file with the site's own authority, empty for the usual ones.
    """

    address: str
    token: str = field(default="", repr=False)
    certificates: str = ""

    @property
    def warning(self) -> str:
        """What the reader should know before a token is sent; empty if nothing."""
        parts = urlsplit(self.address)
        if self.token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            return "The token can be read on its way; use an address that begins with https://."
        return ""


@dataclass(frozen=True)
class ServerImage:
    """An image of the server's studies; ``name`` is for the reader."""

    image_id: str
    name: str
    series_uid: str | None = None


@dataclass(frozen=True)
class Target:
    """What is asked about: an image of the studies, or one that was sent for a session."""

    image_id: str | None = None
    session_id: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """As parameters of an address."""
        named = {"image": self.image_id, "session_id": self.session_id}
        return {key: value for key, value in named.items() if value}


class Stream:
    """Events as they come; whoever leaves closes it from another thread."""

    def __init__(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse):
        self._connection = connection
        self._answer = answer
        # A connection that the server will close is given up by http.client; keep its socket.
        self._socket = connection.sock
        self._left = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        """The events until the answer's end, or until :meth:`close`.

        Raises:
            ServerError: if the connection breaks.
        """
        try:
            yield from read_events(self._answer)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if not self._left.is_set():
                raise ServerError("The connection to the server broke; ask again.") from error
        finally:
            self.close()

    def close(self) -> None:
        """Leave; the server stops its work."""
        self._left.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        self._connection.close()


@dataclass(frozen=True)
class Decision:
    """What the reader makes of an answer.

    Attributes:
        outcome: accepted, edited or rejected.
        target: ``name``, where the reader gave one, and ``color`` (0 to 255 each) on the screen.
        reason: of a rejected one.
    """

    inference_id: str
    outcome: str
    target: Values
    reason: str | None = None


class Client:
    """Calls the server; every refusal becomes an error with the server's sentence."""

    def __init__(self, server: Server) -> None:
        """Check the address and the token.

        Raises:
            ServerError: if one of them cannot be used; the token is not repeated.
        """
        parts = urlsplit(server.address.strip())
        if not _is_usable(parts):
            raise ServerError(
                "The server's address is not usable; expected one such as http://127.0.0.1:8000."
            )
        if any(not 32 < ord(character) < 127 for character in server.token):
            raise ServerError("The token holds a blank or a character that no token has.")
        self._parts = parts
        self._server = server

    def connect(self) -> list[ServerImage]:
        """The images of the studies, after a look at what kind of server it is.

        Raises:
            ServerError: if it is no MedReasoner server.
        """
        models = self._json("GET", "/info/").get("models", {})
        if ASK_MODEL not in models:
            raise ServerError("This MONAI Label server runs another app than MedReasoner.")
        objects = self._json("GET", "/datastore/", {"output": "all"})["objects"]
        return [_image_of(image_id, entry) for image_id, entry in sorted(objects.items())]

    def download(self, image_id: str, folder: Path) -> Path:
        """Write the image into ``folder`` and return its file."""
        connection, answer = self._open("GET", "/datastore/image", {"image": image_id})
        try:
            name = answer.headers.get_filename() or ""
            suffix = (
                "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix
            )
            path = folder / f"image{suffix or '.nii.gz'}"
            with path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, http.client.HTTPException) as error:
            raise ServerError("The image did not arrive whole; load it again.") from error
        finally:
            connection.close()
        return path

    def open_session(self, image: Path) -> str:
        """Send an image that is not in the studies; returns the session's id."""
        part = FilePart("files", "image" + "".join(image.suffixes), image)
        reply = self._form("/session/", {}, {}, part)
        return str(reply["session_id"])

    def has_session(self, session_id: str) -> bool:
        """Whether the server still has what was sent."""
        try:
            self._json("GET", f"/session/{quote(session_id, safe='')}", {"update_ts": "true"})
        except NotFoundError:
            return False
        return True

    def questions(self, text: str) -> list[str]:
        """The questions that a text makes: one for each target of a list."""
        answer = self._json("POST", "/medreasoner/questions", values={"query": text})
        return list(answer["questions"])

    def ask(self, target: Target, values: Values) -> Stream:
        """Ask a question; ``values`` are what ``params`` of ``/infer`` may hold."""
        return self._stream("ask", target, values)

    def segment(self, target: Target, values: Values) -> Stream:
        """Segment by the reader's own ``box``, ``inside`` and ``outside`` (LPS mm)."""
        return self._stream("segment", target, values)

    def cancel(self, stream_id: str) -> None:
        """Stop a question that is being answered."""
        with contextlib.suppress(NotFoundError):  # it may have ended meanwhile
            self._json("DELETE", f"/medreasoner/streams/{quote(stream_id, safe='')}")

    def history(self, image_id: str) -> list[dict[str, Any]]:
        """Earlier questions about an image, the latest first."""
        records = self._json("GET", "/medreasoner/inferences", {"image": image_id})
        return [record for record in records if record["result"].get("query")]

    def mask(self, record: Values) -> Mask | None:
        """The mask of an earlier question, ``None`` if it is not kept any more."""
        if not record.get("mask_kept"):
            return None
        inference = quote(record["inference_id"], safe="")
        return read_mask(self._json("GET", f"/medreasoner/masks/{inference}"))

    def doubt(self, record: Values) -> Doubt | None:
        """The doubt of an earlier question, with its map where that is kept; ``None`` without."""
        told = record["result"].get("doubt")
        if told is not None and record.get("doubt_map_kept"):
            inference = quote(record["inference_id"], safe="")
            told = self._json("GET", f"/medreasoner/doubts/{inference}")
        return None if told is None else read_doubt(told)

    def decide(self, decision: Decision) -> None:
        """Record what the reader makes of an answer."""
        path = f"/medreasoner/inferences/{quote(decision.inference_id, safe='')}/decision"
        said = {"outcome": decision.outcome, "reason": decision.reason, "target": decision.target}
        self._json("PUT", path, values=said)

    def submit(self, image_id: str, mask: Mask, decision: Decision) -> None:
        """Submit a mask as the image's final label, and what the reader makes of its answer.

        Raises:
            ServerError: if it is refused, or other voxels are kept than were sent.
        """
        segment = {**decision.target, "idx": 1, "inference_id": decision.inference_id}
        said = {
            "inference_id": decision.inference_id,
            "outcome": decision.outcome,
            "label_info": [segment],
        }
        part = FilePart("label", "label.nrrd", to_nrrd(mask))
        query = {"image": image_id, "tag": "final"}
        reply = self._form("/datastore/label", query, {"params": json.dumps(said)}, part)
        kept = (reply.get("medreasoner") or {}).get("voxels_sha256")
        if kept not in (None, hashlib.sha256(runs_text(mask).encode()).hexdigest()):
            raise ServerError("The server keeps another mask than was sent; submit it again.")

    def _stream(self, kind: str, target: Target, values: Values) -> Stream:
        path = f"/medreasoner/streams/{kind}"
        return Stream(*self._open("POST", path, target.query, *_json_body(values)))

    def _form(self, path: str, query: Values, fields: Mapping[str, str], part: FilePart) -> Any:
        content_type, body, length = encode(fields, [part])
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        with body:
            return _read_json(*self._open("PUT", path, query, body, headers))

    def _json(
        self, method: str, path: str, query: Values = _NOTHING, values: Values | None = None
    ) -> Any:
        body, headers = (None, {}) if values is None else _json_body(values)
        return _read_json(*self._open(method, path, query, body, headers))

    def _open(
        self,
        method: str,
        path: str,
        query: Values = _NOTHING,
        body: Body = None,
        headers: Values = _NOTHING,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        url = self._parts.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        login = {"Authorization": f"Bearer {self._server.token}"} if self._server.token else {}
        try:
            connection.request(method, url, body=body, headers={**headers, **login})
            answer = connection.getresponse()
            if answer.status == http.HTTPStatus.OK:
                return connection, answer
            content = answer.read()
        except ssl.SSLError as error:
            connection.close()
            raise ServerError(
                f"The server's certificate is not trusted: {error.reason}."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServerError("The server cannot be reached; is it running?") from error
        connection.close()
        raise _refusal(answer.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=SILENCE_S)
        try:
            context = ssl.create_default_context(cafile=self._server.certificates or None)
        except OSError as error:
            raise ServerError("The file of certificates cannot be read; expected PEM.") from error
        return http.client.HTTPSConnection(host, port, timeout=SILENCE_S, context=context)


def _is_usable(parts: SplitResult) -> bool:
    try:
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def _json_body(values: Values) -> tuple[bytes, dict[str, str]]:
    return json.dumps(values).encode("utf-8"), {"Content-Type": "application/json"}


def _read_json(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Any:
    try:
        return json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerError("The server's answer is not readable; is it MedReasoner?") from error
    finally:
        connection.close()


def _refusal(status: int, content: bytes) -> ServerError:
    if status == http.HTTPStatus.UNAUTHORIZED:
        return ServerError("The server wants a login: the token is missing, wrong or expired.")
    try:
        detail = json.loads(content).get("detail")
    except (ValueError, AttributeError):
        detail = None
    kind = NotFoundError if status == http.HTTPStatus.NOT_FOUND else ServerError
    return kind(detail if isinstance(detail, str) else f"The server refused this (HTTP {status}).")


def _image_of(image_id: str, entry: Values) -> ServerImage:
    info = entry["image"]["info"]
    name = info.get("dicom_folder") or info.get("name") or image_id
    return ServerImage(image_id, str(name), info.get("SeriesInstanceUID"))
