# SPDX-License-Identifier: Apache-2.0
"""NRRD and MetaImage files with one to three hostile lines in their header, by a seed.

Run as a program it loads them, in a process of its own: a parser that writes beyond a buffer ends
the process. ``python -m support.hostile_headers nrrd 1000 7`` prints how many were read.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

VOXELS = bytes(range(96))
HEADERS = {
    "nrrd": (": ", """type: short|dimension: 3|space: left-posterior-superior
sizes: 4 4 3|encoding: raw
space directions: (1,0,0) (0,1,0) (0,0,1)|kinds: domain domain domain|endian: little
space origin: (0,0,0)|labels: "a" "b" "c"|units: "mm" "mm" "mm"|space units: "mm" "mm" "mm"
spacings: 1 1 1|measurement frame: (1,0,0) (0,1,0) (0,0,1)|content: abc|old min: 0
thicknesses: 1 1 1|centers: cell cell cell|key:=value|# comment"""),
    "mha": (" = ", """ObjectType = Image|NDims = 3|BinaryData = True|BinaryDataByteOrderMSB = False
CompressedData = False|TransformMatrix = 1 0 0 0 1 0 0 0 1|Offset = 0 0 0|CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI|ElementSpacing = 1 1 1|DimSize = 4 4 3|ElementNumberOfChannels = 1
ElementType = MET_SHORT|Comment = abc|ID = 1|Color = 1 1 1 1|Modality = MET_MOD_CT
ElementSize = 1 1 1|SequenceID = 1 2 3|Name = x|ParentID = 2|Custom = x|DistanceUnits = mm"""),
}  # fmt: skip
ENDS = {"nrrd": ("NRRD0004\n", "\n\n"), "mha": ("", "\nElementDataFile = LOCAL\n")}
LENGTHS = (0, 1, 5, 63, 64, 65, 128, 255, 256, 257, 512, 513, 1024, 1025, 3999, 4000, 4097, 70_000)
PARTS = ("a", "%s", "1 ", "9", "(1,0,0) ", "(1,1,1,1,1,1,1,1) ", '"x" ', "nan ", "1e-999 ", "none ")


def hostile_headers(kind: str, count: int, seed: int) -> Iterator[bytes]:
    """Files of that kind; the same seed makes the same ones."""
    chance = random.Random(seed)
    separator, fields = HEADERS[kind]
    for _ in range(count):
        lines = fields.replace("\n", "|").split("|")
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            at = chance.randrange(len(lines))
            name, _, value = lines[at].partition(separator)
            length, part = chance.choice(LENGTHS), chance.choice(PARTS)
            told = (part * length)[:length]
            shorter = " ".join(value.split()[:-1])
            lines[at] = name + separator + chance.choice((told, f"{value} {told}", shorter))
        begin, end = (
            ("NRRD0004\n", "\n\n") if kind == "nrrd" else ("", "\nElementDataFile = LOCAL\n")
        )
        yield (begin + "\n".join(lines) + end).encode() + VOXELS


def main(kind: str, count: str, seed: str) -> None:
    """Load them; a file that is refused is as good as one that is read."""
    from medreasoner_infer.errors import MedReasonerError
    from medreasoner_infer.imaging import load_volume

    read = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"hostile.{kind}"
        for content in hostile_headers(kind, int(count), int(seed)):
            path.write_bytes(content)
            try:
                load_volume(path)
                read += 1
            except MedReasonerError:
                continue
    print(f"{read} of {count} were read")


if __name__ == "__main__":
    main(*sys.argv[1:])
