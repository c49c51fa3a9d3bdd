# SPDX-License-Identifier: Apache-2.0
"""The embedded reasoner's model card, written from measured figures."""

from __future__ import annotations

from medreasoner_training.markdown import table_lines

_HEAD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# MedReasoner embedded reasoner{name}

{about}
- **Reading**: what a question names, or tells in almost the words of a fact or of a place, is read
  by the clinical vocabulary (`medreasoner_infer/language/recognition.py`), in eight languages and
  with typing errors, before the model is asked: then in the words that `prompt.json` holds for the
  target, and not at all for a term that is none of its targets. Other descriptions go to the model
  as they stand.
- **Input**: the slice in its window, isotropic, letterboxed to 128 x 128, as `grey_xy_ramps`
  (red: grey, green: x ramp, blue: y ramp). `prompt.json` holds the prompt and these settings.
- **Output**: `<think>...</think><answer>{"bbox":[x1,y1,x2,y2],"points_1":[x,y],"points_2":[x,y]}
  </answer>` without a line break, in pixels of that square, `<answer>null</answer>`, or
  `<answer>"not understood"</answer>`.
- **Licence**: Apache-2.0.
- **Training** {start} on one CPU core, seed {seed}{hours}: `python -m
  medreasoner_training.embedded.reasoner.train --out DIR {arguments}`. On another processor
  rounding differs, and so the weights.
- **Figures**: `python -m medreasoner_training.embedded.reasoner.evaluate --model DIR --data DATA`,
  for the pictures with `--real_data DATA/real`; mean and 95 % bootstrap interval. Malformed or
  `null` answers to a visible target count as 0. Each question is put to the model as it stands,
  but for the tables of a user's own words.
"""

_OF_PHRASINGS = """\
A tiny Qwen2.5-VL (2.2 million parameters) that answers clinical questions about one axial slice
with a reasoning trace, a box and two key points, or `null` when the target is not on the slice.
**For demonstration and testing, not for clinical use.**

- **Data**: synthetic torso phantoms only (`medreasoner_training.embedded.phantom`); no image of a
  patient and no pretrained weights took part in the training. Some organ positions of the phantom
  were adjusted after a look at the first of the two real examples below, so that the figures on
  real CT are not wholly independent of it.
- **Limits**: it knows the 19 targets of `medreasoner_training/embedded/queries.yaml`. A description
  that is neither worded as there nor read by the vocabulary often gets another target. It was
  trained on axial sections of the trunk in the radiological display convention; other regions,
  planes and modalities give arbitrary answers. The sides in its reasoning are the image's. It
  cannot judge disease; how often findings are missed or invented stands in their table."""

_OF_VOCABULARY = """\
A tiny Qwen2.5-VL (3.5 million parameters) that answers clinical questions about one image with a
reasoning trace, a box and two key points, with `null` when the target is not on the image, or
says that it did not understand the question. **For demonstration and testing, not for clinical
use.**

- **Data**: synthetic torso sections, chest radiographs, skin and brain pictures
  (`medreasoner_training.embedded.phantom`), and 85 public images that may be trained on: foveal
  avascular zones (Zenodo 5075194), HVSMR-2.0 hearts, HyperKvasir polyps and IDRiD optic discs
  (all CC BY 4.0), BUSI breast ultrasound and DSB2018 nuclei (CC0), Spinal Cord Toolbox testing
  data (MIT), PyRadiomics breast MR (BSD-3-Clause). No pretrained weights took part. Some organ
  positions of the phantom were adjusted after a look at the first of the two real CT examples
  below, so that the figures on real CT are not wholly independent of it.
- **Questions** are made from the clinical vocabulary (`medreasoner_infer/language`): names,
  synonyms, Latin, abbreviations, lay words, functions, diseases, signs, procedures and places in
  eight languages, with typing errors; a fifth of the forms, facts and outside terms took no part
  in the training, and the figures below are on these.
- **Confidence**: none is shown. A calibration fitted on synthetic images and those of the training
  tells right boxes from wrong ones on real images (AUROC 0.75 on the CT examples, 0.83 on the
  pictures below), but puts them too high by 0.19 and 0.31; fitted on synthetic images that were
  moved, blurred, dimmed and made noisy it does hardly better (0.76 and 0.83; 0.20 and 0.27). One
  fitted on half of the pictures holds on the other half (0.81 and 0.86; 0.07 and 0.09): it takes a
  site's own images. Of right and wrong *not present* none of these tells (AUROC 0.62 and less):
  they did not know what a kind of picture can show (`kinds.json`). With that, one fitted on the
  benchmark's questions does, of patients that it has not seen (AUROC 0.87, calibration error 0.03),
  but its absent targets are all of those that the kind of picture cannot show.
- **Limits**: it knows 37 targets (`medreasoner_training/embedded/questions/known.py`), axial
  sections of the trunk in the radiological display convention, and the kinds of picture named
  above; others give arbitrary answers. Sides in the reasoning are the patient's on axial sections
  of the trunk, the image's on other pictures. It cannot judge disease; how often findings are
  missed or invented stands in their table."""

_LAST_STAGE = (
    "from the reasoner `embedded-small` by `make embedded-models`: the mean of the weights before "
    "and after the last of its four stages, of which the first 500 steps had the rates of a "
    "training of 5,400 steps,"
)

_ROWS = (
    ("well-formed answers", "well_formed"),
    ("right target named", "named"),
    ("box IoU", "box_iou"),
    ("boxes with IoU > 0.5", "box_iou_above_half"),
    ("key points inside the target", "points_inside"),
    ("visible target answered with a box", "present_found"),
    ("absent target answered with null", "absent_refused"),
)
_COLUMNS = (
    ("trained phrasings", "trained_phrasings"),
    ("held-out phrasings", "held_out_phrasings"),
    ("shuffled images", "shuffled_images"),
    ("blank images", "blank_images"),
)
_TITLES = {
    "phantoms": "Held-out phantoms",
    "findings": "Findings, on held-out phantoms that show one",
    "real_ct": "Real CT (two public TotalSegmentator examples, labels are model output)",
}


def _figure(entry: dict) -> str:
    if entry["mean"] is None:
        return "-"
    return f"{entry['mean']:.3f} ({entry['low']:.3f}-{entry['high']:.3f}, n={entry['n']})"


def _section(title: str, part: dict) -> str:
    rows = [[name, *(_figure(part[column][key]) for _, column in _COLUMNS)] for name, key in _ROWS]
    prior = part["mean_box_prior"]
    targets = [
        [
            name,
            _figure(entry),
            _figure(part["held_out_phrasings"]["box_iou_by_target"][name]),
            _figure(prior["by_target"][name]),
        ]
        for name, entry in part["trained_phrasings"]["box_iou_by_target"].items()
    ]
    lines = [
        "",
        f"## {title}",
        "",
        *table_lines(["", *(name for name, _ in _COLUMNS)], rows),
        "",
        "The mean box of each target over the phantoms, without looking at the image, has box "
        f"IoU {_figure(prior['box_iou'])}.",
        "",
        *table_lines(["box IoU", "trained phrasings", "held-out phrasings", "mean box"], targets),
    ]
    return "\n".join(lines) + "\n"


def _understanding(part: dict) -> str:
    """Which questions of the held-out part of the vocabulary are understood."""
    named = [[kind, _figure(entry)] for kind, entry in part["named"].items()]
    refused = [[kind, _figure(entry)] for kind, entry in part["refused"].items()]
    lines = [
        "",
        "## Questions in a user's own words, on real CT slices",
        "",
        "Each target is asked for on the slice where it is largest, in forms, facts and terms that "
        "took no part in the training. The vocabulary's reading knows the forms and terms; the "
        "facts and places were kept from it, too, but for the rows of told facts. Its bounds were "
        "set with an eye on questions of this kind.",
        "",
        *table_lines(["question", "right target named"], named),
        "",
        *table_lines(["question", "called not understood"], refused),
        "",
        f"The other side is named in {_figure(part['wrong_side'])} of the answers that name one.",
    ]
    return "\n".join(lines) + "\n"


def _pictures(part: dict) -> str:
    """Real images of other kinds."""
    keys = ("box_iou", "mean_box_iou", "named", "absent")
    rows = [
        [modality, *(_figure(found[key]) if key in found else "-" for key in keys)]
        for modality, found in part.items()
    ]
    columns = ["", "box IoU", "mean box", "right target named", "absent target answered with null"]
    lines = [
        "",
        "## Public real images of many modalities, test part",
        "",
        "Beside it the mean box of what was trained on; single nuclei among many are left out.",
        "",
        *table_lines(columns, rows),
    ]
    return "\n".join(lines) + "\n"


_SECTIONS = {"understanding": _understanding, "pictures": _pictures}


def model_card(report: dict, training: dict) -> str:
    """Markdown of the model card.

    Args:
        report: what :func:`evaluate.evaluate` returns.
        training: ``training.json`` of the model folder, the settings it was trained with.
    """
    names = ("stage", "init", "real_data", "steps", "batch", "questions", "beginnings", "lr",
             "decay_share", "seed")  # fmt: skip
    told = (name for name in names if training.get(name) not in (None, ""))
    arguments = " ".join(f"--{name} {training[name]}" for name in told)
    hours = f", in {training['hours']} hours" if training.get("hours") else ""
    knows_vocabulary = training.get("stage") == "vocabulary"
    about = _OF_VOCABULARY if knows_vocabulary else _OF_PHRASINGS
    head = (
        _HEAD.replace("{about}", about)
        .replace("{name}", "" if knows_vocabulary else ", small")
        .replace("{start}", _LAST_STAGE if knows_vocabulary else "from nothing")
        .replace("{arguments}", arguments)
        .replace("{seed}", str(training.get("seed", "-")))
        .replace("{hours}", hours)
    )
    sections = (
        _SECTIONS[name](part) if name in _SECTIONS else _section(_TITLES[name], part)
        for name, part in report.items()
    )
    return head + "".join(sections)
