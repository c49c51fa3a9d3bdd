# SPDX-License-Identifier: Apache-2.0
"""A parquet file in the exact schema of U-MRG-14K, written without a line of this project."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("images", pa.list_(PICTURE)),
        ("masks", pa.list_(PICTURE)),
        ("prompt", pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))),
        ("reward_model", pa.struct([("ground_truth", pa.string()), ("style", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("category", pa.string()),
                    ("id", pa.string()),
                    ("index", pa.int64()),
                    ("supercategory", pa.string()),
                ]
            ),
        ),
    ]
)
SIZE = 84


def picture(values: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def row(index: int, box: tuple[int, int, int, int], query: str, category: str) -> dict:
    """The target fills its box; the points lie on its middle line, a quarter from either end."""
    x1, y1, x2, y2 = box
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y1:y2, x1:x2] = 255
    # Each row another picture: a copy of one that is held out is not learnt from.
    tissue = np.random.default_rng(index).integers(20, 120, (SIZE // 12, SIZE // 12), np.uint8)
    image = np.repeat(tissue.repeat(12, 0).repeat(12, 1)[..., None], 3, axis=2)
    image[mask > 0] = (200, 180, 160)
    middle, quarter = (y1 + y2) / 2, (x2 - x1) / 4
    truth = {"bbox_2d": list(box), "point_2d": [[x1 + quarter, middle], [x2 - quarter, middle]]}
    return {
        "data_source": "umrg",
        "images": [picture(image)],
        "masks": [picture(mask)],
        "prompt": [{"role": "user", "content": query}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": {
            "id": f"umrg_{index:05d}",
            "supercategory": "abdomen" if index % 2 == 0 else "lung",
            "category": category,
            "index": index,
        },
    }


def write(path: Path, rows: list[dict], rows_per_group: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=rows_per_group)
    return path
