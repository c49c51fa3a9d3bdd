# SPDX-License-Identifier: Apache-2.0
"""Everything of MONAI Label that the app builds on, in one place.

The names below are those of MONAI Label 0.8.5; some are not meant as public there, so an upgrade
starts by looking at this list.

Raises:
    MissingExtraError: if MONAI Label is not installed.
"""

from __future__ import annotations

from monailabel_app.common.extras import needs_extra

with needs_extra("monailabel", "monailabel"):
    from monailabel.config import settings
    from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
    from monailabel.datastore.local import (
        DataModel,
        ImageLabelModel,
        LocalDatastore,
        LocalDatastoreModel,
    )
    from monailabel.endpoints.infer import ResultType
    from monailabel.endpoints.user.auth import DEFAULT_USER, User, get_current_user
    from monailabel.interfaces.app import MONAILabelApp
    from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
    from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
    from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
    from monailabel.interfaces.tasks.strategy import Strategy
    from monailabel.interfaces.tasks.train import TrainTask
    from monailabel.interfaces.utils.app import app_instance, apps
    from monailabel.utils.others.generic import get_mime_type

__all__ = [
    "DEFAULT_USER",
    "DICOMWebDatastore",
    "DICOMwebClientX",
    "DataModel",
    "Datastore",
    "DefaultLabelTag",
    "ImageLabelModel",
    "ImageNotFoundException",
    "InferTask",
    "InferType",
    "LabelNotFoundException",
    "LocalDatastore",
    "LocalDatastoreModel",
    "MONAILabelApp",
    "ResultType",
    "Strategy",
    "TrainTask",
    "User",
    "app_instance",
    "apps",
    "get_current_user",
    "get_mime_type",
    "settings",
]
