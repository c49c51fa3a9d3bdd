# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from medreasoner_infer.pipeline import Pipeline
from monailabel_app.common.privacy import quiet_request_logs
from monailabel_app.common.private_files import close_to_others, private_folder
from monailabel_app.dicom.archive import FolderArchive, ResultArchive
from monailabel_app.dicom.keeping import ResultKeeper, take_over
from monailabel_app.errors import StudiesAwayError, UnknownImageError, UnknownTaskError
from monailabel_app.framework import (
    Datastore,
    InferTask,
    MONAILabelApp,
    Strategy,
    TrainTask,
)
from monailabel_app.framework import settings as monailabel_settings
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.batch import BatchRun
from monailabel_app.inference.gate import InferenceGate
from monailabel_app.inference.service import AnsweringService, Answers
from monailabel_app.inference.strategies import STRATEGY, OfferedImages
from monailabel_app.inference.tasks import (
    ASK_TASK,
    CLICK_TASK,
    AskTask,
    Call,
    ClickTask,
    ViewerTask,
    params_of,
)
from monailabel_app.settings import AppSettings
from monailabel_app.site.sessions import Sessions
from monailabel_app.store import RecordStore
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.scratch import Scratch
from monailabel_app.studies.server_lock import ServerLock

HIDDEN_FOLDER = ".medreasoner"
RESULTS_FOLDER = "dicom"
# Put to a reasoner's server at a time; each keeps its volume in memory.
PARALLEL_QUESTIONS = 4
SCRATCH_FOLDER = "scratch"
SESSIONS_FOLDER = "sessions"
_WEB = ("http://", "https://")


class MedReasonerApp(MONAILabelApp):  # type: ignore[misc]
    """Clinical questions about medical images, answered with reasoning, prompts and a mask.

    A subclass in a sample app's ``main.py`` sets ``defaults``; it must name ``MONAILabelApp`` as a
    direct base as well, which is how MONAI Label recognises an app.
    """

    defaults: ClassVar[AppSettings] = AppSettings()

    def __init__(
        self,
        app_dir: str,
        studies: str,
        conf: Mapping[str, str] | None,
        *,
        pipeline: Answers | None = None,
    ) -> None:
        """Build the app as MONAI Label does; ``pipeline`` replaces the one that ``conf`` names.

        Raises:
            SettingsError: if ``conf`` holds an unknown key or an unusable value.
            UnknownModelError: if a model's name means nothing.
            StudiesAwayError: if there is no folder of studies; it is not made.
            FolderInUseError: if another server uses the same folders.
            ServiceError: if ``preload`` is set and a model is not available.
        """
        quiet_request_logs()
        self.medreasoner = AppSettings.from_conf(conf or {}, self.defaults)
        self.batch_run = BatchRun()
        self.data_dir = self.medreasoner.data_dir or default_data_dir(studies)
        self.scratch = Scratch(self.data_dir / SCRATCH_FOLDER)
        self._folders = self._take_folders(studies)
        pipeline = pipeline or self._make_pipeline()
        volumes = self._volumes = VolumeCache(self.medreasoner.volume_cache_mb << 20)
        self.service = AnsweringService(
            pipeline,
            volumes,
            RecordStore(self.data_dir, self.medreasoner.keep_masks_mb << 20),
            InferenceGate(self.medreasoner.max_waiting),
            self._make_questions_gate(),
        )
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf or {}),
            name="MedReasoner",
            description="Ask a clinical question about the image and see the reasoning",
        )
        self.results = self._make_keeper(volumes)
        if "monailabel.app" in sys.modules:
            self._serve(pipeline)

    def _take_folders(self, studies: str) -> ServerLock | None:
        """Keep other servers off, and the records from other accounts.

        A command or a training beside the server takes nothing: it may read, and what it writes
        is locked file by file.
        """
        is_web = studies.startswith(_WEB)
        if not is_web and not Path(studies).is_dir():
            raise StudiesAwayError(
                "The folder of studies is not there; connect or make it, then start again."
            )
        private_folder(self.data_dir, parents=is_web or self.medreasoner.data_dir is not None)
        if "monailabel.app" not in sys.modules:
            return None
        lock = ServerLock([self.data_dir] if is_web else [self.data_dir, Path(studies)])
        self.scratch.empty()
        if is_web or not Path(studies).resolve().is_relative_to(self.data_dir.resolve()):
            close_to_others(self.data_dir)
        return lock

    def _make_pipeline(self) -> Pipeline:
        return Pipeline.from_registry(
            self.medreasoner.reasoner,
            self.medreasoner.segmenter,
            device=self.medreasoner.device,
            reasoner_url=self.medreasoner.reasoner_url,
            adapter=self.medreasoner.adapter,
        )

    def _make_questions_gate(self) -> InferenceGate | None:
        if self.medreasoner.reasoner_url is None:
            return None
        return InferenceGate(self.medreasoner.max_waiting, PARALLEL_QUESTIONS)

    def _make_keeper(self, volumes: VolumeCache) -> ResultKeeper:
        store = self.datastore()
        records = self.service.records
        if isinstance(store, PacsStudies):
            archive: ResultArchive = store.archive(self.medreasoner.orthanc_url)
            return ResultKeeper(records, self.image_source, volumes, archive, store.label_sent)
        archive = FolderArchive(Path(self.studies), self.data_dir / RESULTS_FOLDER)
        return ResultKeeper(records, self.image_source, volumes, archive)

    def _serve(self, pipeline: Answers) -> None:
        """What only the server needs; training subprocesses build the app as well."""
        from monailabel_app.web.routes import install_routes

        server = sys.modules["monailabel.app"].app
        self._sessions.clear()
        install_routes(server)
        take_over(server.state, self.results)
        if self.medreasoner.preload and isinstance(pipeline, Pipeline):
            pipeline.load()

    def init_datastore(self) -> Datastore:
        """A folder with DICOM series as well, or a DICOMweb server."""
        if self.studies.startswith(_WEB):
            return super().init_datastore()
        return StudiesFolder(
            Path(self.studies),
            self.data_dir / "series",
            auto_reload=monailabel_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=monailabel_settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def _init_dicomweb_datastore(self) -> Datastore:
        return PacsStudies.connect(self.studies)

    def init_infers(self) -> dict[str, InferTask]:
        """Both tasks, whose models are loaded at first use."""
        return {ASK_TASK: AskTask(self.service), CLICK_TASK: ClickTask(self.service)}

    def init_strategies(self) -> dict[str, Strategy]:
        """The one by which Slicer's *Next Sample* chooses."""
        self.offered = OfferedImages()
        return {STRATEGY: self.offered}

    def _load_sessions(self, load: bool = False) -> Sessions:
        stated = monailabel_settings.MONAI_LABEL_SESSION_PATH.strip()
        folder = Path(stated) if stated else self.data_dir
        # One of our own, as all that lies in it is removed at a start.
        expiry_s = monailabel_settings.MONAI_LABEL_SESSION_EXPIRY
        return Sessions(folder / SESSIONS_FOLDER, expiry_s, forget=self._volumes.forget)

    def init_trainers(self) -> dict[str, TrainTask]:
        """Fine-tuning of the reasoner on what readers approved; nothing is loaded before."""
        from monailabel_app.training.task import make_train_task

        return {ASK_TASK: make_train_task(self.studies, self.data_dir, self.medreasoner)}

    def infer(
        self, request: Mapping[str, Any], datastore: Datastore | None = None
    ) -> dict[str, Any]:
        """Run a task as MONAI Label does; paths are never read from a request.

        Raises:
            UnknownTaskError: if there is no such model.
            UnknownImageError: if the studies hold no such image.
            MedReasonerError: as the task does.
        """
        source = self.image_source(request.get("image"), datastore)
        call = Call(params_of(request), source, mask_folder=Path(tempfile.mkdtemp()))
        return self.answer(str(request.get("model")), call)

    def answer(self, model: str, call: Call, save_as: str | None = None) -> dict[str, Any]:
        """Run a task, and keep its mask as a label of the tag ``save_as`` if one is given.

        Returns:
            As MONAI Label's ``infer``: ``file``, ``params``, and the ``label`` with its ``tag``.

        Raises:
            UnknownTaskError: if there is no such model.
            MedReasonerError: as the task does.
        """
        file, params = self.task(model).answer(call)
        label = file
        image_id = call.source.image_id
        if save_as is not None and file is not None and image_id is not None:
            info = {"model": model, "params": params}
            label = self.datastore().save_label(image_id, file, save_as, info)
        return {"label": label, "tag": save_as, "file": file, "params": params}

    def task(self, model: str) -> ViewerTask:
        """The task of that name.

        Raises:
            UnknownTaskError: if there is no such model.
        """
        task = self._infers.get(model)
        if not isinstance(task, ViewerTask):
            names = ", ".join(self._infers)
            raise UnknownTaskError(f"The app has no model of this name; it has: {names}.")
        return task

    def image_source(self, image_id: object, datastore: Datastore | None = None) -> ImageSource:
        """Where the image of that id lies.

        Raises:
            UnknownImageError: if the studies hold no such image.
        """
        store = datastore or self.datastore()
        if not isinstance(image_id, str) or not image_id:
            raise UnknownImageError("The request names no image; give the id of one.")
        if isinstance(store, (StudiesFolder, PacsStudies)):
            return store.image_source(image_id)
        if image_id not in store.list_images():
            raise UnknownImageError("The studies hold no image of this id; reload the list.")
        return ImageSource(Path(store.get_image_uri(image_id)), image_id)

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Join a submitted label to the inference it came from; the reply says to which.

        Raises:
            RecordStoreError: the label is saved and not recorded; it can be submitted again.
        """
        store = self.datastore()
        submission = None
        if isinstance(store, (StudiesFolder, PacsStudies)):
            submission = store.take_submission(image_id)
        if submission is None:
            return {}
        label, document = self.results.label(submission)
        sent = None if document is None else document.to_dict()
        return {"medreasoner": {**label.to_dict(), "pacs": sent}}


def default_data_dir(studies: str) -> Path:
    """``.medreasoner`` in a folder of studies; ``$MEDREASONER_HOME`` for a DICOMweb server."""
    if studies.startswith(_WEB):
        address = studies.rstrip("/").strip()
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        home = Path(os.environ.get("MEDREASONER_HOME", "~/.medreasoner")).expanduser()
        return home / "dicomweb" / name
    return Path(studies) / HIDDEN_FOLDER
