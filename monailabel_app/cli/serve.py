# SPDX-License-Identifier: Apache-2.0
"""``medreasoner serve``: the MONAI Label server with our app, bound to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    ReasonerOption,
    ReasonerUrlOption,
    RecordsDatabaseOption,
    SegmenterOption,
)


def serve(
    studies: Annotated[
        str,
        typer.Option(
            envvar="MEDREASONER_STUDIES",
            help="Folder of studies, or the address of a DICOMweb server.",
        ),
    ],
    port: Annotated[int, typer.Option(help="TCP port.", min=0, max=65535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from here only.")
    ] = "127.0.0.1",
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    orthanc_url: Annotated[
        str | None,
        typer.Option(
            help="REST API of the Orthanc with the studies, e.g. http://orthanc:8042; with it "
            "a new version of a result replaces the old one."
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the records instead of .medreasoner in the studies, e.g. where the "
            "studies may not be written to.",
            file_okay=False,
        ),
    ] = None,
    records_database: RecordsDatabaseOption = None,
    train_configs: Annotated[
        Path | None,
        typer.Option(
            help="Folder with YAML configurations of training besides the shipped ones.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    preload: Annotated[
        bool, typer.Option(help="Load the models at start instead of at the first question.")
    ] = True,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Readers who may log in: name:token:role lines, readable by you only; the role "
            "is reader, reviewer or administrator, and reader where it is left out."
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin besides the server's own that may call it; repeatable."),
    ] = None,
    allow_unauthenticated: Annotated[
        bool,
        typer.Option("--allow-unauthenticated", help="Answer other machines without a login."),
    ] = False,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy in front of the server, whose word on who is "
            "calling counts; repeatable."
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate (PEM); the server then speaks HTTPS.")
    ] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """Start the MONAI Label server; OHIF and 3D Slicer connect to it.

    Further settings of access are MEDREASONER_* variables, see docs/security.md; an address that
    holds a password belongs there too, as everybody on the machine sees a command line.
    """
    from monailabel_app.web.server import ServerOptions, run_server

    run_server(
        ServerOptions(
            studies=studies,
            host=host,
            port=port,
            reasoner=reasoner,
            segmenter=segmenter,
            reasoner_url=reasoner_url,
            orthanc_url=orthanc_url,
            records=records,
            records_database=records_database,
            train_configs=train_configs,
            device=device,
            preload=preload,
            token_file=token_file,
            allowed_origins=tuple(allowed_origin or ()),
            allow_unauthenticated=allow_unauthenticated,
            trusted_proxies=tuple(trusted_proxy or ()),
            certificate=certificate,
            certificate_key=certificate_key,
        )
    )
