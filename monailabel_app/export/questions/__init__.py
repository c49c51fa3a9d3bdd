# SPDX-License-Identifier: Apache-2.0
"""Who asks for a structure that no reader has asked for: templates, or a site's language model.

A model is told the name of the label, the modality, the plane and the names of its neighbours in
the label map, nothing else. What it writes is checked (:mod:`medreasoner_training.samples.naming`),
cached, and used; where it fails, the templates stand in.
"""

from __future__ import annotations

from monailabel_app.export.questions.chat import SiteChat
from monailabel_app.export.questions.maker import (
    Asked,
    QuestionMaker,
    WrittenQuestions,
    questions_by_template,
)
from monailabel_app.export.questions.settings import QueryWriterSettings, writer_settings
from monailabel_app.export.questions.writer import QueryWriter

__all__ = [
    "Asked",
    "QueryWriter",
    "QueryWriterSettings",
    "QuestionMaker",
    "SiteChat",
    "WrittenQuestions",
    "questions_by_template",
    "writer_settings",
]
