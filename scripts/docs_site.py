# SPDX-License-Identifier: Apache-2.0
"""What the documentation's site needs beside its configuration, mkdocs.yml."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_LOG = logging.getLogger("mkdocs.hooks.docs_site")
_LINK = re.compile(r"\[([^]]+)\]\((\.\./[^)#]+)[^)]*\)")
_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")
_TABLE = re.compile(r"^(=+ +=[= ]*\n.*^=+ +=[= ]*)$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """mkdocs' hook: a link to a file of the repository, which the site does not hold, names it."""
    folder = (DOCS / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(DOCS):
            return link[0]
        if not target.exists():
            _LOG.warning("%s links to a file that is not there: %s", page.file.src_uri, link[2])
        return f"{link[1]} (`{target.relative_to(ROOT)}`)"

    return _LINK.sub(named, markdown)


class SphinxMarkup(griffe.Extension):
    """Shows what docstrings write for Sphinx, which Markdown does not know: roles and tables."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """griffe's hook for every object."""
        if obj.docstring is not None:
            text = _ROLE.sub(_reference, obj.docstring.value)
            obj.docstring.value = _TABLE.sub(r"```text\n\1\n```", text)


def _reference(role: re.Match[str]) -> str:
    """A link where the reference shows the object, its name elsewhere."""
    name = role[1]
    shown = name.rsplit(".", 1)[-1]
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'
