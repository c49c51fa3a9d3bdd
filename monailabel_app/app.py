# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app: what MONAI Label asks for, made of the site, the models and the routes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from medreasoner_infer.pipeline import Pipeline
from monailabel_app.common.privacy import quiet_request_logs
from monailabel_app.common.start_faults import tell_start_faults
from monailabel_app.framework import (
    Datastore,
    InferTask,
    MONAILabelApp,
    Strategy,
    TrainTask,
)
from monailabel_app.framework import settings as monailabel_settings
from monailabel_app.inference.batch import BatchRun
from monailabel_app.inference.call import ASK_TASK
from monailabel_app.inference.compute_thread import ComputeThread
from monailabel_app.inference.device import Device
from monailabel_app.inference.measures import Measures
from monailabel_app.inference.service import AnsweringService
from monailabel_app.inference.strategies import STRATEGY, OfferedImages
from monailabel_app.inference.tasks import viewer_tasks
from monailabel_app.settings import AppSettings
from monailabel_app.site.opening import (
    Site,
    SiteLimits,
    hold_folders,
    open_site,
    prepare_folders,
)
from monailabel_app.site.paths import SitePaths
from monailabel_app.site.sessions import Sessions
from monailabel_app.strategies.next_cases import NextCases, strategies_of
from monailabel_app.training.task import ReasonerTrainTask, make_train_task
from monailabel_app.web.routes.install import install_routes
from monailabel_app.web.services import Services, provide

SESSIONS_FOLDER = "sessions"
_SERVER = "monailabel.app"


class MedReasonerApp(MONAILabelApp):
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
        pipeline: Pipeline | None = None,
    ) -> None:
        """Build the app as MONAI Label does; ``pipeline`` replaces the one that ``conf`` names.

        A command or a training beside the server takes no lock: it may read, and what it writes is
        locked file by file.

        Raises:
            SettingsError: if ``conf`` holds an unknown key or an unusable value.
            UnknownModelError: if a model's name means nothing.
            StudiesAwayError: if there is no folder of studies; it is not made.
            FolderInUseError: if another server uses the same folders.
            ServiceError: if ``preload`` is set and a model is not available.
        """
        quiet_request_logs()
        tell_start_faults()
        own = self.medreasoner = AppSettings.from_conf(conf or {}, self.defaults)
        paths = SitePaths.of(studies, own.data_dir, own.records_database)
        prepare_folders(paths, own_data_dir=own.data_dir is not None)
        self._lock = hold_folders(paths) if _SERVER in sys.modules else None
        self._pipeline = pipeline or own.make_pipeline()
        self.site = _open(paths, own)
        measures = Measures()
        self.answering = _answering(self.site, self._pipeline, own, measures)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf or {}),
            name="MedReasoner",
            description="Ask a clinical question about the image and see the reasoning",
        )
        self.services = Services(
            site=self.site,
            answering=self.answering,
            measures=measures,
            models=tuple(self._infers),
            sessions=self._sessions,
            batch=BatchRun(self.site, self.answering),
            offered=self._offered,
            next_cases=self._next_cases,
            trainers=self._trainers,
            info=self.info,
        )
        if _SERVER in sys.modules:
            self._serve()

    def _serve(self) -> None:
        """What only the server needs; training subprocesses build the app as well."""
        server = sys.modules[_SERVER].app
        self._sessions.clear()
        install_routes(server)
        provide(server.state, self.services)
        if self.medreasoner.preload:
            self.answering.load()

    def infer(
        self, request: Mapping[str, Any], datastore: Datastore | None = None
    ) -> dict[str, Any]:
        """As MONAI Label's, but an image of the studies is read as the server's routes read it.

        ``get_image_uri`` leads to a copy for viewers, which says neither modality nor window.
        ``save_label`` is for the routes.
        """
        image = request["image"]
        if isinstance(image, str) and not os.path.exists(image):
            request = {**request, "image": self.site.image_source(image)}
        answer: dict[str, Any] = super().infer(request, datastore)
        return answer

    def init_datastore(self) -> Datastore:
        """The site's, a folder or a DICOMweb server."""
        return self.site.studies

    def init_infers(self) -> dict[str, InferTask]:
        """Both models, whose weights are loaded at first use."""
        return viewer_tasks(self.answering)

    def init_strategies(self) -> dict[str, Strategy]:
        """Those by which *Next Sample* chooses; the first is what clients take by themselves."""
        self._offered = OfferedImages()
        self._next_cases = NextCases(self.site, self.answering.is_busy)
        return {STRATEGY: self._offered, **strategies_of(self._next_cases)}

    def init_trainers(self) -> dict[str, ReasonerTrainTask | TrainTask]:
        """Fine-tuning of the reasoner on what readers approved; nothing is loaded before."""
        return {ASK_TASK: make_train_task(self.site.paths, self.medreasoner)}

    def _load_sessions(self, load: bool = False) -> Sessions:
        stated = monailabel_settings.MONAI_LABEL_SESSION_PATH.strip()
        folder = Path(stated) if stated else self.site.paths.own_dir
        # One of our own, as all that lies in it is removed at a start.
        expiry_s = monailabel_settings.MONAI_LABEL_SESSION_EXPIRY
        return Sessions(folder / SESSIONS_FOLDER, expiry_s, forget=self.site.volumes.forget)


def _open(paths: SitePaths, own: AppSettings) -> Site:
    return open_site(
        paths,
        SiteLimits(own.volume_cache_mb << 20, own.keep_masks_mb << 20),
        orthanc_url=own.orthanc_url,
        auto_reload=monailabel_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        read_only=monailabel_settings.MONAI_LABEL_DATASTORE_READ_ONLY,
    )


def _answering(
    site: Site, pipeline: Pipeline, own: AppSettings, measures: Measures
) -> AnsweringService:
    device = Device(measures, reasons=own.reasoner_url is None, thread=ComputeThread())
    answering = AnsweringService(
        pipeline,
        site.volumes,
        site.records,
        device,
        own.parallel_questions,
        own.max_waiting,
        measures,
    )
    for name, meaning, value in (
        ("questions_waiting", "Questions in line.", lambda: answering.waiting),
        ("questions_asked", "Questions that are worked at.", lambda: answering.asked),
        ("device_waiting", "Pieces of work that wait for the device.", lambda: device.waiting),
        ("volumes_bytes", "Volumes kept in memory.", lambda: site.volumes.kept_bytes),
    ):
        measures.gauge(f"medreasoner_{name}", meaning, value)
    measures.models(
        lambda: {
            "reasoner": pipeline.reasoner_identity,
            "segmenter": pipeline.segmenter_identity,
        }
    )
    return answering
