# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.postgres import Postgres, server_programs
from support.servers import Orthanc

pytest_plugins = ["support.skips"]

# A busy machine is no failure, and a run that must be green on every machine must repeat itself.
settings.register_profile("repository", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what fails fast first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images that are not part of the repository; a test that needs them skips without."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDREASONER_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(
            f"the public test data are absent: no folder {folder}; set MEDREASONER_SHARED_DATA, "
            "see tests/data/README.md"
        )
    return folder


@pytest.fixture(scope="session", params=[60, 300])
def reward_cases(request: pytest.FixtureRequest) -> list[dict]:
    """What the released code gave for completions: our own table, and the one it was chosen from.

    ``data/README.md`` tells whence they are.
    """
    path = Path(__file__).parent / "data" / "reward_cases.jsonl"
    if request.param == 300:
        path = request.getfixturevalue("shared_data").parent / "reference" / path.name
        if not path.is_file():
            pytest.skip(f"further scores of the released code are absent: no file {path}")
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == request.param
    return cases


@pytest.fixture(scope="session")
def orthanc_factory() -> Iterator[Callable[[Path], Orthanc]]:
    """Starts an empty Orthanc on a folder; a test that needs it skips where it is absent."""
    running: list[Orthanc] = []

    def start(folder: Path) -> Orthanc:
        if shutil.which("Orthanc") is None or not Orthanc.PLUGINS.is_dir():
            pytest.skip("Orthanc is absent; install it with scripts/setup_pacs.sh")
        running.append(Orthanc(folder))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.kill()


@pytest.fixture
def orthanc(orthanc_factory, tmp_path: Path) -> Iterator[Orthanc]:
    """A running Orthanc that holds nothing yet."""
    server = orthanc_factory(tmp_path / "orthanc")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; a test that needs it skips where it, or its driver, is absent."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is absent; install it with scripts/setup_pacs.sh")
    pytest.importorskip("psycopg")
    server = Postgres(programs)
    try:
        server.start()
        server.make_owner()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def records_address(request: pytest.FixtureRequest) -> str | None:
    """Where records are kept: in their folder (``None``), or in a new database of a server."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture(scope="session")
def answered():
    """Makes a result as the pipeline does: ``answered(volume, plane, index, mask_ijk, …)``.

    The box covers 20 to 60 % of the slice's width and 30 to 70 % of its height; the first point is
    the reasoner's, the second the reader's and outside the target.
    """
    from medreasoner_infer.imaging import choose_window
    from medreasoner_infer.prompting import SourcedPrompt, record_prompt
    from medreasoner_infer.records import record_slice, summarise_mask
    from medreasoner_infer.result import InferenceResult, SliceChoice
    from medreasoner_infer.slice_choice import DisplayedSlice
    from medreasoner_infer.types import ModelIdentity, SlicePrompt

    model = ModelIdentity("toy", "packaged", "r1", "ab" * 32, "Apache-2.0", "Not for clinical use.")

    def answer(volume, plane, index, mask_ijk, name="inference-1", present=True, outcome=None):
        shown = DisplayedSlice.of(volume, plane, index, choose_window(volume))
        height, width = shown.mapping.shape_hw
        prompt = SlicePrompt(
            (width * 0.2, height * 0.3, width * 0.6, height * 0.7),
            ((width * 0.3, height * 0.4), (width * 0.5, height * 0.5)),
            (1, 0),
        )
        sourced = SourcedPrompt(prompt, "reasoner", ("reasoner", "reader"))
        return InferenceResult(
            inference_id=name,
            created_at="2026-01-02T03:04:05.000+00:00",
            kind="ask",
            query="Which organ makes bile – größer als 胆囊?",
            reasoning="The liver does.\nIt is large.",
            completion="<think>",
            present=present,
            outcome=outcome,
            confidence=0.5,
            agreement=None,
            samples=(),
            prompts=record_prompt(sourced, shown.mapping) if present else None,
            slice=record_slice(shown),
            slice_choice=SliceChoice("index", f"Slice {index} was asked for."),
            propagated=True,
            mask_ijk=mask_ijk,
            mask=summarise_mask(mask_ijk, shown.mapping, 0.75),
            modality=volume.modality,
            reasoner=model,
            segmenter=model,
            timings_s={"reason": 0.25},
            warnings=("A warning.",),
        )

    return answer
