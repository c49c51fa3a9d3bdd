# SPDX-License-Identifier: Apache-2.0
"""``medreasoner serve``: the MONAI Label server with our app, bound to this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    ReasonerOption,
    ReasonerUrlOption,
    SegmenterOption,
)


def serve(
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    port: Annotated[int, typer.Option(help="TCP port.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from here only.")
    ] = "127.0.0.1",
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    preload: Annotated[
        bool, typer.Option(help="Load the models at start instead of at the first question.")
    ] = True,
) -> None:
    """Start the MONAI Label server; OHIF and 3D Slicer connect to it."""
    from monailabel_app.server import ServerOptions, run_server

    run_server(
        ServerOptions(
            studies=studies,
            host=host,
            port=port,
            reasoner=reasoner,
            segmenter=segmenter,
            reasoner_url=reasoner_url,
            device=device,
            preload=preload,
        )
    )
