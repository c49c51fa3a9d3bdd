# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's server with our access control around it.

The routes are added when the app itself is built, which also works with MONAI Label's own start;
middleware can only be added here, before it starts.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from monailabel_app.common.privacy import quiet_request_logs
from monailabel_app.common.private_files import keep_private
from monailabel_app.security.settings import security_settings
from monailabel_app.security.stack import secure
from monailabel_app.web.ending import ends_in_order

if TYPE_CHECKING:
    from fastapi import FastAPI


@cache
def secured_app() -> FastAPI:
    """The one server of this process."""
    from monailabel.app import app as monailabel_server

    keep_private()
    quiet_request_logs()
    return ends_in_order(secure(monailabel_server, security_settings()))
