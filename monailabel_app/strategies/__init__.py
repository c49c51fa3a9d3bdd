# SPDX-License-Identifier: Apache-2.0
"""Which image a reader is offered next.

The order is :mod:`medreasoner_training.next_case`'s; here is gathered what it needs to know of the
site's images. What takes reading an image or asking a PACS is done in the background.
"""

from __future__ import annotations
