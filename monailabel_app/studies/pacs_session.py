# SPDX-License-Identifier: Apache-2.0
"""The HTTP session of a DICOMweb server."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from monailabel_app.framework import settings

CONNECT_TIMEOUT_S = 10.0
# The longest silence within an answer, not the whole of it: a series may take minutes.
READ_TIMEOUT_S = 120.0
# A server may close a connection that was kept for later just when the next request goes out;
# Orthanc does after a second of silence. Idempotent requests (GET, DELETE) are sent once more then.
_ONCE_MORE = Retry(total=1, connect=0, status=0, redirect=0)


class TimeoutAdapter(HTTPAdapter):
    """Gives every request a timeout; requests itself would wait for ever."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send with the default timeout where none is given."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return super().send(*args, **kwargs)


def pacs_session() -> requests.Session:
    """A session with MONAI Label's credentials, if any are set, and with timeouts."""
    from dicomweb_client.session_utils import (
        create_session,
        create_session_from_gcp_credentials,
        create_session_from_user_pass,
    )

    user = settings.MONAI_LABEL_DICOMWEB_USERNAME
    password = settings.MONAI_LABEL_DICOMWEB_PASSWORD
    if "googleapis.com" in settings.MONAI_LABEL_STUDIES:
        session = create_session_from_gcp_credentials()
    elif user and password:
        session = create_session_from_user_pass(user, password)
    else:
        session = create_session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, TimeoutAdapter(max_retries=_ONCE_MORE))
    return session
