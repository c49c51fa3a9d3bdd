# SPDX-License-Identifier: Apache-2.0
"""A process that is killed while it keeps a label leaves file, index and record of one label."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from support.submitting import (
    KeptLabel,
    die_while_adding,
    die_while_submitting,
    open_site,
    submit,
    submit_for_ever,
)

from monailabel_app.site.opening import SiteLimits
from monailabel_app.site.opening import open_site as open_whole_site
from monailabel_app.site.paths import SitePaths

WAIT_S = 300.0
# Its children are forked from a process that has imported what takes long, and holds nothing open.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["monailabel_app.store", "monailabel_app.studies.local"])


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("anna", "berta"):
        image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
        nibabel.save(image, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def label(tmp_path: Path) -> Path:
    return tmp_path / "label.nii.gz"


def run(target, *arguments: object) -> None:
    process = _PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 0


def kept_after_next_start(studies: Path) -> KeptLabel:
    """As the server starts; nothing unfinished is left then."""
    site = open_whole_site(SitePaths.of(str(studies)), SiteLimits(1 << 20, 1 << 20))
    site.records.close()
    assert list(studies.rglob(".medreasoner-part-*")) == []
    return KeptLabel(studies, studies / ".medreasoner", "anna")


@pytest.mark.parametrize("before", [None, 1])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_label_counts_once_it_is_recorded(studies, label, before, recorded) -> None:
    if before is not None:
        site = open_site(studies)
        submit(site, label, before)
        site[1].close()
    run(die_while_submitting, studies, label, 2, recorded)
    assert kept_after_next_start(studies).number == (2 if recorded else before)
    submit(open_site(studies), label, 3)
    assert kept_after_next_start(studies).number == 3


def test_the_same_label_with_other_words_is_another_one(studies, label) -> None:
    """Its voxels are those of the label before, so that the file alone does not tell."""
    submit(open_site(studies), label, 1)
    run(die_while_submitting, studies, label, 65, False)
    assert kept_after_next_start(studies).number == 1


def test_a_new_image_is_there_with_its_words_or_not_at_all(studies) -> None:
    run(die_while_adding, studies, studies / "anna.nii.gz")
    assert (studies / "carla.nii.gz").exists()
    kept_after_next_start(studies)
    assert not (studies / "carla.nii.gz").exists()


@pytest.mark.slow
def test_killing_a_loop_of_submissions_leaves_one_label_each_time(studies, label, tmp_path) -> None:
    random = np.random.default_rng(5)
    number = 0
    for loop in range(20):
        acknowledged = tmp_path / f"acknowledged{loop}"
        process = _PROCESSES.Process(
            target=submit_for_ever, args=(studies, label, acknowledged, number)
        )
        process.start()
        while not acknowledged.exists() and process.is_alive():
            time.sleep(0.02)
        process.join(float(random.uniform(0.0, 1.0)))
        process.kill()
        process.join(WAIT_S)
        last = int(acknowledged.read_text().split()[-1])
        number = kept_after_next_start(studies).number or 0
        assert number in (last, last + 1)
    assert number > 20
