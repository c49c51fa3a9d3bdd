# SPDX-License-Identifier: Apache-2.0
"""``python -m monailabel_app.training.program FILE``: the process of one training.

``FILE`` is removed once it is read. It holds ``studies``, ``data_dir``, ``train_command``,
``train_configs``, ``reasoner`` and ``options``, as the server that started it has them.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Train; a fault is one line, which ``GET /train/`` shows.

    Raises:
        SystemExit: with status 1 if the training failed or could not start.
    """
    from medreasoner_infer.errors import MedReasonerError
    from monailabel_app.common.privacy import quiet_request_logs
    from monailabel_app.common.private_files import keep_private
    from monailabel_app.settings import AppSettings
    from monailabel_app.site.paths import SitePaths
    from monailabel_app.training.task import make_train_task

    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    keep_private()
    logging.basicConfig(level=logging.WARNING)
    quiet_request_logs()
    configs = told["train_configs"]
    settings = AppSettings(
        reasoner=told["reasoner"],
        train_command=told["train_command"],
        train_configs=None if configs is None else Path(configs),
    )
    paths = SitePaths.of(told["studies"], Path(told["data_dir"]))
    task = make_train_task(paths, settings)
    try:
        task(told["options"], None)
    except MedReasonerError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
