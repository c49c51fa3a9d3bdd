# SPDX-License-Identifier: Apache-2.0
"""``/datastore``: images and labels, as MONAI Label's clients list, load, submit and review them.

Handlers run in threads, so that writing a DICOM segmentation or fetching a series from the PACS
holds nobody else up. A reply of 200 is sent once everything it tells of is on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mimetypes
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Response, UploadFile
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.formats import identify
from monailabel_app.common.door import Name, Token
from monailabel_app.errors import NotFoundError, UnknownImageError
from monailabel_app.framework import (
    DefaultLabelTag,
    ImageNotFoundException,
    LabelNotFoundException,
)
from monailabel_app.security.roles import Action, least_role
from monailabel_app.security.settings import security_settings
from monailabel_app.site.opening import Studies
from monailabel_app.store.records import named_inference
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.infos import CLIENT, REVIEW
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.web.routes.callers import (
    Caller,
    MayDelete,
    MayExport,
    MayLabel,
    MayRead,
    opened,
)
from monailabel_app.web.routes.label_words import MAX_FORM_CHARACTERS, read_words
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.routes.uploads import received_image, received_label, voxels_sha256
from monailabel_app.web.services import App, Services

router = APIRouter(prefix="/datastore", tags=["Datastore"], route_class=TypedErrorRoute)

_FINAL = DefaultLabelTag.FINAL.value
_NO_IMAGE = "The studies hold no image of this id; reload the list."
_NO_LABEL = "The studies hold no label of this image and tag."
_BLOCK = 1 << 20


class Output(str, Enum):
    """What is told of the studies: counts, file names of labelled images, or all entries."""

    TRAIN = "train"
    STATS = "stats"
    ALL = "all"


def _store(app: App) -> Studies:
    with _known():
        app.site.studies.require_folder()
    return app.site.studies


Store = Annotated[Studies, Depends(_store)]
_OPENED = [Depends(opened)]
Text = Annotated[str, Form(max_length=MAX_FORM_CHARACTERS)]
Tag = Token | Literal[""]
CheckSum = Annotated[str, Query(max_length=200, pattern=r"^((MD5|SHA256|SHA512):)?[0-9A-Fa-f]+$")]


@router.get("/", summary="What the studies hold")
def get_datastore(caller: MayRead, store: Store, output: Output = Output.STATS) -> Any:
    """Counts; with ``train`` the files of labelled images, seen from the studies; with ``all``
    every entry with its infos."""
    if output is Output.ALL:
        return store.json()
    if output is Output.TRAIN:
        return store.datalist(full_path=False)
    return store.status()


# --- images --------------------------------------------------------------------------------------


@router.get("/image", summary="Download an image")
def get_image(caller: MayRead, app: App, store: Store, image: Name) -> FileResponse:
    """The image as viewers read it; a DICOM series comes as NIfTI."""
    return _download(_image_file(app, store, image))


@router.head("/image", summary="Check whether an image is there")
def head_image(
    caller: MayRead, app: App, store: Store, image: Name, check_sum: CheckSum = ""
) -> Response:
    """200 or 404; with ``check_sum``, e.g. ``SHA256:ab12``, also whether the file is that one."""
    path = _image_file(app, store, image)
    if check_sum and not _has_digest(path, check_sum):
        raise NotFoundError("The image of this id has another checksum.")
    return Response()


@router.put("/", include_in_schema=False)
@router.put("/image", summary="Add an image")
def put_image(
    caller: MayLabel,
    app: App,
    store: Store,
    image: Name,
    file: Annotated[UploadFile, File()],
    params: Text = "{}",
) -> dict[str, str]:
    """Add an image to the folder of studies; an id that is taken is refused.

    Its format is told by its content; name and extension of the uploaded file mean nothing.
    """
    info = read_words(params, "params", caller)
    if not isinstance(store, StudiesFolder):
        raise InputError("The images of this server are those of the PACS; send the series there.")
    store.require_new(image)
    max_bytes = security_settings().max_upload_mb << 20
    with received_image(app.site.scratch, file.file, max_bytes) as received:
        store.add_new_image(image, received, info)
    return {"image": image}


@router.delete("/", include_in_schema=False, dependencies=_OPENED)
@router.delete("/image", summary="Remove an image and its labels", dependencies=_OPENED)
def delete_image(caller: MayDelete, store: Store, id: Name) -> dict[str, Any]:
    """Remove an image that is a file of its own."""
    with _known():
        store.remove_image(id)
    return {}


@router.get("/image/info", summary="What is known of an image")
def get_image_info(caller: MayRead, app: App, store: Store, image: Name) -> dict[str, Any]:
    """The server's word on the image, and what callers have said of it."""
    app.site.image_source(image)
    info = store.get_image_info(image)
    return {key: value for key, value in info.items() if key != "path"}


@router.put("/image/info", summary="Say something of an image")
def put_image_info(
    caller: MayLabel, app: App, store: Store, image: Name, info: Text = "{}"
) -> dict[str, Any]:
    """Keep the caller's words beside what the server knows, which they do not change."""
    words = _without_review(read_words(info, "info", caller))
    app.site.image_source(image)
    with _known():
        store.update_image_info(image, words)
    return {}


# --- labels --------------------------------------------------------------------------------------


@router.get("/label", summary="Download a label")
def get_label(caller: MayRead, store: Store, label: Name, tag: Token) -> FileResponse:
    """The label of the image of that id."""
    return _download(_label_file(store, label, tag))


@router.head("/label", summary="Check whether a label is there")
def head_label(caller: MayRead, store: Store, image: Name, tag: Token) -> Response:
    """200 or 404."""
    _label_file(store, image, tag)
    return Response()


@router.put("/label", summary="Submit a label")
def submit_label(
    caller: MayLabel,
    app: App,
    store: Store,
    image: Name,
    label: Annotated[UploadFile, File()],
    params: Text = "{}",
    tag: Tag = _FINAL,
) -> dict[str, Any]:
    """Keep and record a label, or neither; the reply tells which inference it was joined to.

    Submitted once more as it was, it is the same label. ``voxels_sha256`` is that of the kept
    file's mask, by which a viewer can compare it with what it shows.
    """
    info = read_words(params, "params", caller)
    _check_owner(app, named_inference(info[CLIENT]), caller)
    volume = app.site.results.volume(image)
    only_own = None if caller.may(Action.REVIEW) else caller.name
    with ExitStack() as stack:
        received = stack.enter_context(received_label(app.site.scratch, label.file, volume))
        kept = stack.enter_context(store.label_kept(image, str(received), tag or _FINAL, info))
        submission = dataclasses.replace(kept, asked_by=only_own)
        record = app.site.results.record_label(submission)
    kept_voxels = voxels_sha256(record)
    document = app.site.results.send_label(record)
    sent = None if document is None else document.to_dict()
    told = {**record.to_dict(), "voxels_sha256": kept_voxels, "pacs": sent}
    return {"image": image, "label": image, "medreasoner": told}


@router.delete("/label", summary="Remove a label", dependencies=_OPENED)
def delete_label(caller: MayDelete, store: Store, id: Name, tag: Token) -> dict[str, Any]:
    """Remove a label from the studies; what was recorded of it stays."""
    with _known():
        store.remove_label(id, tag)
    return {}


@router.get("/label/info", summary="What is known of a label")
def get_label_info(caller: MayRead, store: Store, label: Name, tag: Token) -> dict[str, Any]:
    """The server's word on the label, a reviewer's, and what callers have said of it."""
    _label_file(store, label, tag)
    return store.get_label_info(label, tag)


@router.put("/label/info", summary="Say something of a label, or review it")
def put_label_info(
    caller: MayLabel, store: Store, label: Name, tag: Token, info: Text = "{}"
) -> dict[str, Any]:
    """Keep the caller's words; ``segmentationMeta`` is a review, which not every role may write."""
    words = read_words(info, "info", caller)
    with _known():
        store.update_label_info(label, tag, words)
    return {}


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info(
    caller: MayLabel, store: Store, label: Name, tag: Token, params: Text = "{}"
) -> dict[str, Any]:
    """The same under the name that MONAI Label's Reviewer uses."""
    return put_label_info(caller, store, label, tag, params)


# --- all of it -----------------------------------------------------------------------------------


@router.get(
    "/dataset", summary="Download all labelled images as a ZIP archive", dependencies=_OPENED
)
def get_dataset(
    caller: MayExport,
    app: App,
    store: Store,
    limit_cases: Annotated[int, Query(ge=1, le=1_000_000)] | None = None,
) -> FileResponse:
    """Images with a final label, their labels, and all infos."""
    cases = store.datalist()[:limit_cases]
    if not cases:
        raise NotFoundError("No image of the studies has a final label yet.")
    stack = ExitStack()
    with stack:
        path = stack.enter_context(app.site.scratch.file(".zip"))
        with zipfile.ZipFile(path, mode="w", allowZip64=True) as archive:
            for case in cases:
                for kind, file in case.items():
                    archive.write(file, arcname=f"{kind}/{Path(file).name}")
            archive.writestr("metadata.json", json.dumps(store.json()))
        sent = stack.pop_all()
    return FileResponse(
        path, media_type="application/zip", filename="dataset.zip",
        background=BackgroundTask(sent.close),
    )  # fmt: skip


# --- small parts ---------------------------------------------------------------------------------


@contextmanager
def _known() -> Iterator[None]:
    """MONAI Label's errors as ours."""
    try:
        yield
    except ImageNotFoundException as error:
        raise UnknownImageError(_NO_IMAGE) from error
    except LabelNotFoundException as error:
        raise NotFoundError(_NO_LABEL) from error


def _image_file(app: Services, store: IndexedFolder, image_id: str) -> Path:
    app.site.image_source(image_id)
    path = Path(store.get_image_uri(image_id))
    if not path.is_file():
        raise UnknownImageError(_NO_IMAGE)
    # A file of another kind under an image's name is given to nobody.
    identify(path)
    return path


def _label_file(store: IndexedFolder, image_id: str, tag: str) -> Path:
    path = store.label_file(image_id, tag)
    if path is None:
        raise NotFoundError(_NO_LABEL)
    return path


def _download(path: Path) -> FileResponse:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=path.name)


def _has_digest(path: Path, check_sum: str) -> bool:
    algorithm, _, digest = check_sum.rpartition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, (algorithm or "SHA256").lower()).hexdigest()
    return found == digest.lower()


def _check_owner(app: Services, inference_id: str | None, caller: Caller) -> None:
    """A label is a word on the answer it names; on others' answers not everybody has one."""
    if inference_id is None or caller.may(Action.REVIEW):
        return
    record = app.site.records.find(inference_id)
    if record is not None and record.asked_by not in (None, caller.name):
        raise HTTPException(
            403,
            f"The label names an answer that another reader asked for. Your role may not "
            f"{Action.REVIEW.value}; this needs the role {least_role(Action.REVIEW).value!r}.",
        )


def _without_review(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != REVIEW}
