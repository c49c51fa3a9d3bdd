# SPDX-License-Identifier: Apache-2.0
"""The whole export: open the studies, collect, split by patient, make samples, write."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medreasoner_infer.errors import InputError
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    LabelledCase,
    LeftOut,
    SampleDataset,
    SampleSettings,
    open_dataset,
    pseudonym,
    require_free,
    samples_of_case,
    writing_dataset,
)
from monailabel_app.common.privacy import quiet_request_logs
from monailabel_app.errors import PacsAnswerError, PacsFaultError, UnknownImageError
from monailabel_app.export.approved import ApprovedLabel, approved_labels
from monailabel_app.export.cases import CaseKeys, build_case
from monailabel_app.export.identity import PatientIdentity, identity_of
from monailabel_app.export.overlaps import whole_segments
from monailabel_app.export.patients import PatientTable, read_patients
from monailabel_app.export.questions import (
    QueryWriter,
    QueryWriterSettings,
    QuestionMaker,
    WrittenQuestions,
    questions_by_template,
    writer_settings,
)
from monailabel_app.export.salt import site_salt
from monailabel_app.export.sides import Assign, OwnedImage, assign_together, sides_of
from monailabel_app.export.splits import keep_splits
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.site.opening import Studies, find_records, open_studies
from monailabel_app.site.paths import SitePaths, require_studies
from monailabel_app.store import RecordStore
from monailabel_app.studies.set_aside import SetAside

UNREADABLE = "the image or the label cannot be read"
NO_IMAGE = "the image is not among the studies any more"
PATIENT_UNTOLD = "nothing tells whose image it is, so that it counts as a patient of its own"
NOT_AMONG_STUDIES = "patients.csv names it, but it is not among the studies"
API_KEY_VARIABLE = "MEDREASONER_QUERY_WRITER_KEY"  # pragma: allowlist secret - a name
_KEPT_VOXEL_BYTES = 1 << 30
Tell = Callable[[SetAside], object]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportSettings:
    """``val_share`` of the patients validate; see :class:`SampleSettings` for the rest."""

    val_share: float = 0.2
    samples: SampleSettings = field(default_factory=SampleSettings)


@dataclass(frozen=True)
class _Entry:
    """An approved label with what is known of its image and patient."""

    label: ApprovedLabel
    source: ImageSource
    identity: PatientIdentity
    patient_key: str
    case_key: str


def export_studies(
    studies: str,
    out: Path,
    settings: ExportSettings,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    query_writer: QueryWriterSettings | None = None,
    tell: Tell | None = None,
    database: str | None = None,
) -> SampleDataset:
    """Export everything approved in a folder of studies or on a DICOMweb server.

    Args:
        studies: a folder, or the address of a DICOMweb server.
        out: folder to write; it must not exist or be empty.
        settings: shares and sizes.
        data_dir: folder of the app's records, if the server was given one.
        progress: told the number of labels done and of all.
        query_writer: the language model that writes questions; by default as
            ``query_writer.yaml`` in the folder of the records says, else none.
        tell: told by name of what cannot be read, which the data set only counts.
        database: of the records, by default the one that their folder says.

    Raises:
        QueryWriterSettingsError: the query writer's settings cannot be used.
        as :func:`export_approved`.
    """
    quiet_request_logs()
    require_free(out)
    require_studies(studies)
    paths = SitePaths.of(studies, data_dir, database)
    data_dir, store = paths.data_dir, open_studies(paths)
    with ExitStack() as opened:
        writer = None
        wanted = query_writer or writer_settings(data_dir)
        if wanted is not None:
            writer = QueryWriter(wanted, data_dir, os.environ.get(API_KEY_VARIABLE))
            opened.callback(writer.close)
        records = find_records(paths)
        if records is not None:
            opened.callback(records.close)
        salt, patients = site_salt(data_dir), read_patients(paths)
        assign = partial(keep_splits, data_dir)
        return export_approved(
            store, records, salt, out, settings, progress, writer, tell, patients, assign=assign
        )


def export_approved(
    studies: Studies,
    records: RecordStore | None,
    salt: bytes,
    out: Path,
    settings: ExportSettings,
    progress: Progress | None = None,
    writer: QueryWriter | None = None,
    tell: Tell | None = None,
    patients: PatientTable | None = None,
    *,
    assign: Assign = assign_together,
) -> SampleDataset:
    """Export what is approved in an open datastore.

    Args: as of :func:`export_studies`, and
        patients: the site's own word on patients.
        assign: who trains and who validates; the site's memory of it is :func:`keep_splits`.

    Raises:
        DatasetFolderError: ``out`` holds something already.
        TooFewPatientsError: there are not enough patients for the splits.
        NoSamplesError: nothing became a sample.
        PacsUnreachableError: the DICOMweb server does not answer.
        QueryWriterUnreachableError: the language model does not answer.
        MissingExtraError: the packages for writing are not installed.
    """
    left_out, refused, notes = LeftOut(), LeftOut(), LeftOut()
    ask = questions_by_template if writer is None else WrittenQuestions(writer, refused)
    labels = approved_labels(studies, records, left_out)
    aside = _SetAside(left_out, tell or (lambda _: None))
    for one in studies.set_aside():
        aside.tell(one)
    patients = patients or PatientTable()
    entries = list(_entries(labels, studies, salt, aside, patients))
    _note_patients(entries, patients, studies, aside.tell, notes)
    volumes = VolumeCache(_KEPT_VOXEL_BYTES)
    images = {
        entry.case_key: OwnedImage(entry.case_key, entry.source, entry.patient_key)
        for entry in entries
    }
    splits = sides_of(list(images.values()), volumes, settings.val_share, notes, assign)
    names = (TRAIN, VALIDATION) if settings.val_share else (TRAIN,)
    recorded = {"val_share": settings.val_share, **dataclasses.asdict(settings.samples)}
    recorded["query_model"] = None if writer is None else writer.settings.model
    # In the order of pseudonyms: that of the studies would tell of dates and names.
    entries.sort(key=lambda entry: (entry.case_key, entry.label.label_file.name))
    with writing_dataset(out, names, recorded, left_out, refused, notes) as dataset:
        for done, entry in enumerate(entries, start=1):
            split = splits[entry.patient_key]
            with aside.naming(entry.label.image_id):
                case = _case(entry, volumes, split == VALIDATION, left_out, ask)
                if case is not None:
                    for sample in samples_of_case(case, settings.samples, left_out):
                        dataset.add(sample, split)
            if progress is not None:
                progress(done, len(entries))
    return open_dataset(out)


@dataclass(frozen=True)
class _SetAside:
    """Counts and names what cannot be read, so that the rest goes on."""

    left_out: LeftOut
    tell: Tell

    @contextmanager
    def naming(self, image_id: str) -> Iterator[None]:
        """What is done for one image."""
        try:
            yield
        except UnknownImageError:
            self.left_out.add("", NO_IMAGE)
        except (InputError, PacsAnswerError, PacsFaultError) as error:
            self.left_out.add("", UNREADABLE)
            self.tell(SetAside(image_id, str(error)))


def _entries(
    labels: list[ApprovedLabel],
    studies: Studies,
    salt: bytes,
    aside: _SetAside,
    patients: PatientTable,
) -> Iterator[_Entry]:
    for label in labels:
        entry = None
        with aside.naming(label.image_id):
            entry = _entry(label, studies, salt, patients)
        if entry is not None:
            yield entry


def _note_patients(
    entries: list[_Entry], patients: PatientTable, studies: Studies, tell: Tell, notes: LeftOut
) -> None:
    """Count images of which nothing tells the patient, and images of the table that are unknown."""
    untold = {each.case_key for each in entries if not each.identity.is_told}
    if untold:
        notes.add("", PATIENT_UNTOLD, len(untold))
    for name in patients.unknown(studies.list_images()) if patients.by_image else ():
        notes.add("", NOT_AMONG_STUDIES)
        tell(SetAside(name, NOT_AMONG_STUDIES))


def _entry(label: ApprovedLabel, studies: Studies, salt: bytes, patients: PatientTable) -> _Entry:
    source = studies.image_source(label.image_id)
    identity = identity_of(source, studies.get_image_info(label.image_id), patients)
    return _Entry(
        label,
        source,
        identity,
        patient_key=pseudonym(f"patient:{identity.patient}", salt),
        case_key=pseudonym(f"image:{label.image_id}", salt),
    )


def _case(
    entry: _Entry, volumes: VolumeCache, held_out: bool, left_out: LeftOut, ask: QuestionMaker
) -> LabelledCase | None:
    keys = CaseKeys(entry.case_key, entry.patient_key, held_out)
    volume = volumes.get(entry.source)
    whole = whole_segments(entry.label, entry.source, volume)
    return build_case(entry.label, volume, entry.identity, keys, left_out, ask, whole)
