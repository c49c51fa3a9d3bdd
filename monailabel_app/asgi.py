# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's server with our access control: ``--uvicorn_app monailabel_app.asgi:app``.

The routes are added when the app itself is built, which also works with MONAI Label's own server;
middleware can only be added here, before it starts.
"""

from __future__ import annotations

from monailabel.app import app as monailabel_server

from monailabel_app.ending import ends_in_order
from monailabel_app.privacy import quiet_request_logs
from monailabel_app.private_files import keep_private
from monailabel_app.security.settings import security_settings
from monailabel_app.security.stack import secure

keep_private()
quiet_request_logs()
app = ends_in_order(secure(monailabel_server, security_settings()))
