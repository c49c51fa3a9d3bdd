# SPDX-License-Identifier: Apache-2.0
"""An administrator's mistake is told in one sentence, before any work, with a right exit status."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import typer
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

pytest.importorskip("monailabel")

from medreasoner_infer import __version__
from medreasoner_infer.errors import MissingExtraError, ModelUnavailableError, UnknownModelError
from medreasoner_infer.modalities import KNOWN_MODALITIES, known_modality
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.weights import locate_model
from medreasoner_infer.segmenters.loading import find_files
from monailabel_app.cli import main
from monailabel_app.cli.app import app
from monailabel_app.cli.places import usable_folder
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.common.start_faults import tell_start_faults
from monailabel_app.errors import SettingsError
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.site.opening import prepare_folders
from monailabel_app.site.paths import SitePaths
from monailabel_app.web.server import ServerOptions, app_conf, warn_of_plain_logins

GRID = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def medreasoner(tmp_path, monkeypatch, capsys) -> Callable[..., Ended]:
    """The program in this process, in a folder with a picture, a text and an image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("liver.png")
    Path("text").write_text("no folder")
    Path("studies").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), "studies/a.nii.gz")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["medreasoner", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Ended(status, said.out, said.err)

    return run


STUDIES_OF = {
    "serve": (),
    "demo": (),
    "export": ("--out", "new"),
    "history": ("1.2.3",),
    "train": (),
    "doctor": (),
}


@pytest.mark.parametrize("command", STUDIES_OF)
@pytest.mark.parametrize(("given", "said"), [
    ("nowhere", "There is no folder"), ("liver.png", "is a file"),
])  # fmt: skip
def test_studies_that_are_no_folder_are_named_and_not_made(
    medreasoner, command, given, said
) -> None:
    ended = medreasoner(command, *STUDIES_OF[command], "--studies", given)
    assert ended.status == 1
    assert ended.err.startswith("Error: ")
    assert said in ended.err
    assert given in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not Path("nowhere").exists()
    assert not Path("new").exists()


OUT_OF = {
    "ask": ("ask", "studies/a.nii.gz", "Where?", "--out"),
    "segment": ("segment", "studies/a.nii.gz", "--box", "0,0,3,3", "--out"),
    "export": ("export", "--studies", "studies", "--out"),
    "history": ("history", "1.2.3", "--studies", "studies", "--out"),
    "demo": ("demo", "--studies", "studies", "--out"),
    "train": ("train", "--studies", "studies", "--run"),
}


@pytest.mark.parametrize("command", OUT_OF)
@pytest.mark.parametrize("out", ["text", "text/below"])
def test_a_folder_for_results_that_is_a_file_is_told_before_any_work(
    medreasoner, monkeypatch, command, out
) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    ended = medreasoner(*OUT_OF[command], out)
    assert ended.status == 2
    assert "is no folder" in ended.err
    assert "text" in ended.err


WORKING = {
    **OUT_OF,
    "prior": ("prior", "studies/a.nii.gz", "studies/a.nii.gz", "Where?", "--out"),
    "batch": ("batch", "text", "--studies", "studies", "--out"),
    "evaluate": ("evaluate", "studies", "--out"),
    "audit": ("audit", "--studies", "studies", "--out"),
    "ablate": ("ablate", "text", "--out"),
    "build": ("dataset", "build", "studies", "--out"),
    "merge": ("models", "merge", "studies", "--out"),
}


@pytest.mark.parametrize("command", WORKING)
@pytest.mark.parametrize("out", ["/proc/new", "below/" + "x" * 250, "x" * 300])
def test_a_folder_that_cannot_be_made_is_told_before_any_work(
    medreasoner, monkeypatch, command, out
) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    ended = medreasoner(*WORKING[command], out)
    assert ended.status == 2
    assert "cannot be written" in ended.err
    assert not Path("below").exists()


# What each command that makes its results anew would write, and how it is called.
WRITES = {
    "ask": (("ask", "liver.png", "Where?"), "--out", "work/mask.png"),
    "segment": (("segment", "liver.png", "--box", "0,0,3,3"), "--out", "work/answer.json"),
    "prior": (
        ("prior", "studies/a.nii.gz", "studies/a.nii.gz", "Where?"), "--out", "work/change.json",
    ),
    "demo": (("demo", "--studies", "studies"), "--out", "work/overlay_1.png"),
    "history": (("history", "1.2.3", "--studies", "studies"), "--out", "work/mask_1.nii.gz"),
    "audit": (("audit", "--studies", "studies"), "--out", "work/answers.csv"),
    "compare": (("compare", "studies", "studies"), "--out", "work"),
    "compare --html": (("compare", "studies", "studies"), "--html", "work"),
    "robustness": (("robustness", "studies/a.nii.gz", "liver"), "--out", "work"),
    "train": (("train", "--dry-run"), "--out", "work.json"),
    "train, a table": (("train", "--dry-run"), "--out", "work.md"),
    "dataset check": (("dataset", "check", "studies"), "--out", "work"),
    "dataset review": (("dataset", "review", "studies"), "--export", "work"),
    "dataset review --page": (("dataset", "review", "studies"), "--page", "work"),
}  # fmt: skip
# What is new, or goes on with its own run, and refuses all else by its own tests.
NEW = {
    "ablate": "tests/test_ablations.py",
    "backup": "tests/test_backup.py",
    "batch": "tests/test_batch.py",
    "dataset build": "tests/test_dataset_cli.py",
    "dataset convert": "tests/test_dataset_cli.py",
    "dataset review": "tests/test_dataset_cli.py",
    "evaluate": "tests/test_evaluation.py",
    "export": "tests/test_export.py",
    "models merge": "tests/test_merge.py",
    "train": "tests/test_train_cli.py",
}


def test_every_command_that_is_told_where_to_write_is_one_of_these() -> None:
    def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        yield name, command
        for word, below in getattr(command, "commands", {}).items():
            yield from commands(below, f"{name} {word}".strip())

    told = {
        (name, option)
        for name, command in commands(typer.main.get_command(app))
        for parameter in command.params
        for option in parameter.opts
        if option in ("--out", "--html", "--page", "--export")
    }
    called = {
        (next(name for name, _ in told if " ".join(words).startswith(name) and name), option)
        for words, option, _ in WRITES.values()
    }
    assert told == called | {(name, "--out") for name in NEW}


@pytest.mark.parametrize("case", WRITES)
def test_no_command_replaces_a_file_that_it_did_not_make(medreasoner, monkeypatch, case) -> None:
    """Told before any work, so that neither a mask drawn by hand nor notes are lost unasked."""
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    words, option, place = WRITES[case]
    file = Path(place)
    file.parent.mkdir(exist_ok=True)
    for content in (b"by hand", b"{}", b"[1]", b"\xff\x00"):
        file.write_bytes(content)
        ended = medreasoner(*words, option, file.parts[0])
        assert (ended.status, file.read_bytes()) == (2, content)
        assert f"{file} is there already" in ended.err
        assert "--overwrite" in ended.err


def test_nobody_sees_that_a_folder_was_tried(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "there/new/below", "a [1] %20 ü"):
        assert usable_folder(tmp_path / folder) == tmp_path / folder
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


FILE_OF = {
    "compare": ("compare", "studies", "studies", "--out"),
    "page": ("compare", "studies", "studies", "--html"),
    "robustness": ("robustness", "studies/a.nii.gz", "liver", "--out"),
    "check": ("dataset", "check", "studies", "--out"),
    "review": ("dataset", "review", "studies", "--export"),
    "review page": ("dataset", "review", "studies", "--page"),
    "backup": ("backup", "studies", "--out"),
    "dry run": ("train", "--dry-run", "--out"),
}


@pytest.mark.parametrize("command", FILE_OF)
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("studies", "is a folder"),
        ("nowhere/new", "no folder"),
        ("text/new", "no folder"),
        ("/dev/null", "no ordinary file"),
        ("/proc/new", "cannot be written"),
        ("x" * 250, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_any_work(
    medreasoner, monkeypatch, command, file, said
) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    ended = medreasoner(*FILE_OF[command], file)
    assert ended.status == 2
    assert said in ended.err


@pytest.mark.parametrize("command", ["export", "history", "audit", "doctor", "train", "backup"])
@pytest.mark.parametrize("records", ["nowhere", "text"])
def test_records_to_be_read_that_are_not_there_are_named_and_not_made(
    medreasoner, command, records
) -> None:
    given = ("studies",) if command == "backup" else ("--studies", "studies")
    more = {**STUDIES_OF, "backup": ("--out", "new")}.get(command, ())
    ended = medreasoner(command, *given, *more, "--records", records)
    assert ended.status == 2
    assert f"no folder {records}" in ended.err
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "studies/a.nii.gz", "Where?", "--out", ""),
        ("ask", "studies/a.nii.gz", "Where?", "--out="),
        ("ask", "", "Where?"),
        ("serve", "--studies", "studies", "--records", ""),
        ("serve", "--studies", "studies", "--token-file", ""),
    ],
)
def test_an_empty_path_is_not_the_folder_where_one_is(medreasoner, monkeypatch, arguments) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    ended = medreasoner(*arguments)
    assert ended.status == 2
    assert "it is empty" in ended.err


@pytest.mark.parametrize("command", ["export", "history", "doctor", "train", "backup", "serve"])
@pytest.mark.parametrize(
    "address",
    ["http://", "http://[", "http://reader:secret@pacs:99999/x"],  # pragma: allowlist secret
)
def test_an_address_of_studies_that_there_cannot_be_is_a_sentence(
    medreasoner, command, address
) -> None:
    given = (address,) if command == "backup" else ("--studies", address)
    more = {**STUDIES_OF, "backup": ("--out", "new")}.get(command, ())
    ended = medreasoner(command, *given, *more)
    assert ended.status == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert "expected the address of a DICOMweb server" in last
    assert "secret" not in ended.err


def test_models_alone_are_no_backup_of_a_site(medreasoner, tmp_path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "models" / "live.json").write_text("{}")
    ended = medreasoner("backup", "studies", "--out", "new")
    assert ended.status == 1
    assert "There are no records in" in ended.err
    assert not Path("new").exists()


def test_a_backup_tells_what_lies_behind_a_link(medreasoner, tmp_path) -> None:
    records = Path("studies/.medreasoner")
    records.mkdir()
    (records / "salt").write_bytes(b"s")
    (tmp_path / "large").mkdir()
    (records / "masks").symlink_to(tmp_path / "large")
    ended = medreasoner("backup", "studies", "--out", "new")
    assert ended.status == 0
    assert "masks is a link; what it leads to is not saved" in ended.out


@pytest.mark.parametrize(
    "given",
    [("--slice", "9"), ("--slice", "-1"), ("--window", "x"), ("--plane", "x"),
     ("--position", "nan,0,0"), ("--position", "0,0,500")],
)  # fmt: skip
def test_what_the_image_has_not_is_told_before_a_model_is_loaded(
    medreasoner, monkeypatch, given
) -> None:
    monkeypatch.setattr(
        "medreasoner_infer.pipeline.load_reasoner", lambda *_, **__: pytest.fail("loaded")
    )
    ended = medreasoner("ask", "studies/a.nii.gz", "Where is it bright?", "--out", "new", *given)
    assert ended.status in (1, 2)
    assert any(said in ended.err for said in ("xpected", "the slices 0 to 3"))
    assert not Path("new").exists()


def test_dicom_results_of_an_image_that_is_none_are_refused_before_any_work(
    medreasoner, monkeypatch
) -> None:
    monkeypatch.setattr(
        "medreasoner_infer.pipeline.load_reasoner", lambda *_, **__: pytest.fail("loaded")
    )
    image = "studies/a.nii.gz"
    ended = medreasoner("prior", image, image, "Where?", "--same-patient", "--dicom")
    assert ended.status == 1
    assert "the image is of another format" in ended.err


def test_a_shipped_model_has_no_revision_that_could_be_ignored() -> None:
    with pytest.raises(UnknownModelError, match="has no revision 'some/folder'"):
        resolve_model("segmenter", "embedded@some/folder")


def test_a_ground_truth_that_is_no_text_is_a_wrong_argument(medreasoner) -> None:
    assert medreasoner("reward", "explain", "x", "liver.png").status == 2


@pytest.mark.parametrize("command", ["ask", "segment"])
@pytest.mark.parametrize("given", ["XYZ", "", "SEG", "CT,MR"])
def test_a_modality_that_no_image_has_is_refused_with_those_that_there_are(
    medreasoner, monkeypatch, command, given
) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    ended = medreasoner(*OUT_OF[command], "new", "--modality", given)
    assert ended.status == 2
    assert not Path("new").exists()
    assert all(code in ended.err for code in KNOWN_MODALITIES)


@pytest.mark.parametrize("command", ["ask", "segment"])
def test_the_modalities_are_listed_in_the_help(medreasoner, command) -> None:
    told = medreasoner(command, "--help").out
    assert all(code in told for code in KNOWN_MODALITIES)


@pytest.mark.parametrize(("given", "taken"), [("ct", "CT"), (" Mr ", "MR"), ("OT", "OT")])
def test_a_modality_is_read_whatever_its_case(given, taken) -> None:
    assert known_modality(given) == taken


def test_the_version_is_told(medreasoner) -> None:
    ended = medreasoner("--version")
    assert (ended.status, ended.out.strip()) == (0, f"medreasoner {__version__}")


def test_a_port_that_no_machine_has_is_a_wrong_option(medreasoner) -> None:
    ended = medreasoner("serve", "--studies", "studies", "--port", 99999)
    assert ended.status == 2


def test_a_study_that_the_archive_does_not_know_is_no_success(medreasoner) -> None:
    ended = medreasoner("history", "1.2.3", "--studies", "studies")
    assert ended.status == 1
    assert "holds no record" in ended.out


def test_a_fault_of_the_system_about_a_file_is_a_sentence(medreasoner, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/data/new")

    monkeypatch.setattr("monailabel_app.export.exporting.export_studies", full)
    ended = medreasoner("export", "--studies", "studies", "--out", "new")
    assert ended.status == 1
    assert ended.err.startswith("Error: /data/new cannot be used (No space left on device)")


# --- series ---------------------------------------------------------------------------------------


@pytest.fixture
def two_series(medreasoner, tmp_path) -> tuple[str, str]:
    """The Series Instance UIDs of a short and a long series in ``both``."""
    import pydicom

    short = write_ct_series(np.zeros((2, 6, 6)), GRID, tmp_path / "both" / "short", seed=1)
    long = write_ct_series(np.zeros((4, 6, 6)), GRID, tmp_path / "both" / "long", seed=2)
    first, second = (
        str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID) for folder in (short, long)
    )
    return first, second


@pytest.mark.parametrize("command", [("ask", "both", "Where?"), ("segment", "both")])
def test_a_series_of_a_folder_can_be_chosen(medreasoner, two_series, monkeypatch, command) -> None:
    seen = []
    monkeypatch.setattr(
        "medreasoner_infer.imaging.load_volume",
        lambda path, **options: seen.append(options["series_uid"]) or pytest.skip.Exception,
    )
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: sys.exit(9))
    more = ("--box", "0,0,3,3") if command[0] == "segment" else ()
    assert medreasoner(*command, *more, "--series", two_series[0]).status == 9
    unnamed = medreasoner(*command, *more)
    assert seen == [two_series[0], None]
    assert all(uid in unnamed.out for uid in two_series)
    unknown = medreasoner(*command, *more, "--series", "1.2.3")
    assert unknown.status == 2
    assert all(uid in unknown.err for uid in two_series)


# --- the server's own -----------------------------------------------------------------------------


def test_the_records_folder_reaches_the_app(tmp_path) -> None:
    options = ServerOptions(studies="/data", records=tmp_path / "records")
    assert app_conf(options)["data_dir"] == str(tmp_path / "records")
    assert "data_dir" not in app_conf(ServerOptions(studies="/data"))


def test_records_that_cannot_be_kept_beside_the_studies_name_the_option(medreasoner) -> None:
    Path("studies/.medreasoner").write_text("no folder")
    with pytest.raises(SettingsError, match="--records"):
        prepare_folders(SitePaths.of("studies"), own_data_dir=False)


@pytest.mark.parametrize(
    ("changes", "settings", "warned"),
    [
        ({"host": "0.0.0.0"}, {"token": "t" * 20}, True),
        ({"host": "127.0.0.1"}, {"token": "t" * 20}, False),
        ({"host": "0.0.0.0"}, {}, False),
        ({"host": "0.0.0.0", "certificate": Path("c.pem")}, {"token": "t" * 20}, False),
        ({"host": "0.0.0.0"}, {"token": "t" * 20, "trusted_proxies": "10.0.0.5"}, False),
    ],
)
def test_tokens_that_cross_the_network_as_plain_text_are_warned_of(
    caplog, changes, settings, warned
) -> None:
    with caplog.at_level(logging.WARNING):
        read = SecuritySettings(**settings)
        warn_of_plain_logins(ServerOptions(studies="/data", **changes), read)
    assert ("without TLS" in caplog.text) is warned
    assert "tttt" not in caplog.text


def test_the_advice_installs_this_package_though_it_is_in_no_index() -> None:
    said = str(MissingExtraError("peft", "train"))
    checkout = Path(__file__).resolve().parent.parent
    assert said.endswith(f"pip install -e '{checkout}[train]'")


def test_a_start_that_fails_is_a_sentence_in_the_servers_log(caplog) -> None:
    """Under MONAI Label's own start, whose server logs the traceback as a text."""
    tell_start_faults()
    tell_start_faults()
    logger = logging.getLogger("uvicorn.error")
    with caplog.at_level(logging.ERROR):
        try:
            try:
                raise KeyError("weights")
            except KeyError as error:
                raise ModelUnavailableError("Weights are missing; fetch them.") from error
        except ModelUnavailableError:
            logger.error(traceback.format_exc())
        logger.error("Traceback (most recent call last):\nKeyError: 'a bug keeps its traceback'\n")
    assert [record.getMessage() for record in caplog.records] == [
        "The app cannot start. Weights are missing; fetch them.",
        "Traceback (most recent call last):\nKeyError: 'a bug keeps its traceback'\n",
    ]


def test_weights_that_cannot_be_had_come_with_the_command_that_fetches_them(monkeypatch) -> None:
    spec = resolve_model("segmenter", "medsam2")

    def away(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", away)
    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(ModelUnavailableError, match=r"hf download wanglab/MedSAM2 \S+\.pt"):
        find_files(spec)
    with pytest.raises(ModelUnavailableError, match="hf download a/b --revision abc"):
        locate_model("a/b", "abc")


def test_a_package_that_is_missing_is_told_before_any_work(medreasoner, monkeypatch) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("worked"))
    monkeypatch.setattr("medreasoner_infer.errors.find_spec", lambda _: None)
    ended = medreasoner("evaluate", "studies", "--out", "new")
    assert ended.status == 1
    assert "'pyarrow' is needed" in ended.err
