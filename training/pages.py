# SPDX-License-Identifier: Apache-2.0
"""Pages that need neither a server nor the network, made by Jinja's templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import MissingExtraError

_MAKER = re.compile(rb'<meta name="generator" content="(medreasoner [a-z ]+)">')
_HEAD_BYTES = 4096


def page_maker(path: Path) -> str | None:
    """The command that a page says it was made by; ``None`` of any other file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        found = _MAKER.search(file.read(_HEAD_BYTES))
    return None if found is None else found[1].decode("ascii")


def write_page(
    package: str,
    template_name: str,
    path: Path,
    values: Mapping[str, object],
    *,
    private: bool = False,
) -> None:
    """Fill a template and write it, whole or not at all; texts are escaped.

    Args:
        package: that the template lies in.
        template_name: of its file.
        path: of the page.
        values: of the template, all that it names.
        private: let the owner alone read it.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", "train") from error
    loader = PackageLoader(package, ".")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    text = pages.get_template(template_name).render(values) + "\n"
    write_durably(path, text, private=private)
