# SPDX-License-Identifier: Apache-2.0
"""Random three-dimensional scenes of shapes, from which training slices are cut.

The scenes know no anatomy: after the idea of SynthSeg (Billot et al., Medical Image Analysis 2023)
shapes are so varied that real organs look like one more variation. A scene is built around one
*target*, which fills the crop as an organ fills the segmenter's zoomed crop.

Frame: *scene units*, the crop spans [-1, 1] along x (right) and y (down). z is a third axis along
which every shape drifts, twists, grows and ends; the target lives in about -1 < z < 1.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from functools import cache

import numpy as np

SIZE_PX = 128
_ANGLES = 256
_FAR = np.float32(9.0)


@cache
def _grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    centres = ((np.arange(size_px) + 0.5) / size_px * 2 - 1).astype(np.float32)
    return np.broadcast_to(centres, (size_px, size_px)), np.broadcast_to(
        centres[:, None], (size_px, size_px)
    )


@cache
def upsampling_matrix(coarse: int, fine: int) -> np.ndarray:
    """Matrix (fine, coarse) that interpolates with a smooth (cubic B-spline) kernel."""
    position = (np.arange(fine) + 0.5) / fine * coarse - 0.5
    d = np.abs(position[:, None] - np.arange(coarse)[None])
    weight = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0))
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class SmoothNoise:
    """Smooth random fields (n, size, size) that change continuously with z."""

    first: np.ndarray
    second: np.ndarray
    speed: float

    @classmethod
    def sample(cls, rng: np.random.Generator, n: int, cells: int) -> SmoothNoise:
        """Draw ``n`` fields of ``cells`` x ``cells`` independent values."""
        first, second = rng.standard_normal((2, n, cells, cells), dtype=np.float32)
        return cls(first, second, float(rng.uniform(0.2, 1.2)))

    def at(self, z: float, size_px: int) -> np.ndarray:
        """The fields at height z, about unit variance at the cells' centres."""
        coarse = np.cos(self.speed * z) * self.first + np.sin(self.speed * z) * self.second
        matrix = upsampling_matrix(self.first.shape[-1], size_px)
        return matrix @ coarse.astype(np.float32) @ matrix.T


@dataclass(frozen=True)
class Extent:
    """Where along z a shape lives, and how it tapers towards its ends."""

    centre: float
    half_length: float
    sharpness: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Extent:
        """Draw the extent of a shape that is not the target."""
        return cls(rng.uniform(-1.2, 1.2), np.exp(rng.uniform(-1.0, 1.3)), rng.uniform(2, 6))

    def scale(self, z: float) -> float:
        """Relative size at height z: 1 in the middle, 0 from the ends on."""
        t = abs(z - self.centre) / self.half_length
        return float(max(0.0, 1 - t**self.sharpness) ** 0.5)


@dataclass(frozen=True)
class Blob:
    """A star-shaped region: its radius is a Fourier series of the angle."""

    centre: np.ndarray
    drift: np.ndarray
    radius: float
    aspect: float
    angle: float
    twist: float
    harmonics: np.ndarray
    extent: Extent

    @classmethod
    def sample(
        cls, rng: np.random.Generator, centre: np.ndarray, radius: float, extent: Extent
    ) -> Blob:
        """Draw a blob of about this centre and radius."""
        order = np.arange(2, rng.integers(3, 8))
        spread = rng.choice([0.08, 0.2, 0.32]) / order
        harmonics = spread * (rng.normal(size=(2, len(order), 2)) @ np.array([1, 1j]))
        return cls(
            centre,
            rng.normal(0, 0.12, 2),
            radius,
            float(np.exp(rng.normal(0, 0.3))),
            rng.uniform(0, np.pi),
            rng.normal(0, 0.4),
            harmonics,
            extent,
        )

    def field(self, z: float, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Distance from the centre over the outline's radius: below 1 inside; None if absent."""
        scale = self.extent.scale(z)
        if scale < 0.05:
            return None
        cx, cy = self.centre + self.drift * z
        c, s = np.cos(self.angle + self.twist * z), np.sin(self.angle + self.twist * z)
        u = (c * (x - cx) + s * (y - cy)) * self.aspect
        v = (c * (y - cy) - s * (x - cx)) / self.aspect
        index = (np.arctan2(v, u) * (_ANGLES / (2 * np.pi))).astype(np.int32) % _ANGLES
        return np.sqrt(u * u + v * v) / (self._outline(z) * scale * self.radius)[index]

    def _outline(self, z: float) -> np.ndarray:
        mix = 0.5 + 0.5 * np.sin(1.5 * z)
        coefficients = (1 - mix) * self.harmonics[0] + mix * self.harmonics[1]
        angles = np.arange(_ANGLES) / _ANGLES * 2 * np.pi
        waves = np.exp(1j * np.arange(2, 2 + len(coefficients))[:, None] * angles)
        return np.maximum(1 + (coefficients @ waves).real, 0.25).astype(np.float32)


@dataclass(frozen=True)
class Tube:
    """A bent band: all points near a quadratic Bezier curve."""

    control: np.ndarray
    drift: np.ndarray
    width: float
    extent: Extent

    @classmethod
    def sample(
        cls, rng: np.random.Generator, centre: np.ndarray, radius: float, extent: Extent
    ) -> Tube:
        """Draw a tube of about this centre and half length."""
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.7)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        control = centre + radius * np.stack([-along, bend * across, along])
        width = radius * float(np.exp(rng.uniform(np.log(0.1), np.log(0.5))))
        return cls(control, rng.normal(0, 0.15, (3, 2)), width, extent)

    def field(self, z: float, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """Distance from the curve over the half width: below 1 inside; None if absent."""
        scale = self.extent.scale(z)
        if scale < 0.05:
            return None
        p0, p1, p2 = self.control + self.drift * z
        nearest = np.full(x.shape, np.inf, np.float32)
        t = np.linspace(0, 1, 9)[:, None]
        curve = ((1 - t) ** 2 * p0 + 2 * t * (1 - t) * p1 + t**2 * p2).astype(np.float32)
        for (ax, ay), (bx, by) in itertools.pairwise(curve):
            ex, ey = bx - ax, by - ay
            along = ((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey + 1e-6)
            along = np.clip(along, 0, 1)
            dx, dy = x - ax - along * ex, y - ay - along * ey
            np.minimum(nearest, dx * dx + dy * dy, out=nearest)
        return np.sqrt(nearest) / np.float32(self.width * scale)


Shape = Blob | Tube


@dataclass(frozen=True)
class Region:
    """A region of the scene: the union of shapes, and what is inside and around it.

    ``cut`` bites a piece out of the union. ``wall``, ``halo`` and ``hollow`` are relative widths
    (0: none). ``patches`` is a noise field whose high values are painted with a label of their own.
    ``level`` is the height of a horizontal fluid level in scene units. All parts but the halo and
    the hollow belong to the region's mask.
    """

    shapes: tuple[Shape, ...]
    label: int
    wall: float = 0.0
    halo: float = 0.0
    hollow: float = 0.0
    cut: Shape | None = None
    patches: SmoothNoise | None = None
    level: float | None = None
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def field(self, z: float, size_px: int = SIZE_PX) -> np.ndarray | None:
        """Relative distance field of the union: below 1 inside; None if absent at z."""
        x, y = _grid(size_px)
        x, y = (x - self.shift[0]) / self.scale, (y - self.shift[1]) / self.scale
        fields = [f for f in (shape.field(z, x, y) for shape in self.shapes) if f is not None]
        if not fields:
            return None
        rho = np.minimum.reduce(fields)
        bite = None if self.cut is None else self.cut.field(z, x, y)
        return rho if bite is None else np.where(bite < 1, _FAR, rho)


#: Labels that each region reserves: body, wall, halo, patches or fluid.
LABELS_PER_REGION = 4


@dataclass(frozen=True)
class Scene:
    """Background, regions behind the target, the target, regions in front of it."""

    background: SmoothNoise
    body: Blob | None
    behind: tuple[Region, ...]
    target: Region
    front: tuple[Region, ...]
    labels: int
    air_label: int
    size_px: int = field(default=SIZE_PX)

    def render(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Cut the scene at height z.

        Returns:
            Label map int32 (size, size), values below ``labels``, and the target's bool mask.
        """
        size = self.size_px
        label_map = self.background.at(z, size).argmax(0).astype(np.int32)
        if self.body is not None:
            outside = self.body.field(z, *_grid(size))
            if outside is not None:
                label_map[outside > 0.92] = self.air_label + 1
                label_map[outside > 1] = self.air_label
        for region in self.behind:
            paint(label_map, region, z)
        target = paint(label_map, self.target, z)
        for region in self.front:
            target &= ~paint(label_map, region, z)
        return label_map, target


def paint(label_map: np.ndarray, region: Region, z: float) -> np.ndarray:
    """Draw a region into the label map (in place) and return its mask."""
    rho = region.field(z, label_map.shape[0])
    if rho is None:
        return np.zeros(label_map.shape, bool)
    if region.halo:
        label_map[rho < 1 + region.halo] = region.label + 2
    mask = rho < 1
    if region.hollow:
        mask &= rho > region.hollow
    label_map[mask] = region.label
    if region.patches is not None:
        label_map[mask & (region.patches.at(z, label_map.shape[0])[0] > 0.35)] = region.label + 3
    if region.level is not None:
        label_map[mask & (_grid(label_map.shape[0])[1] < region.level)] = region.label + 3
    if region.wall:
        label_map[mask & (rho > 1 - region.wall)] = region.label + 1
    return mask


def sample_scene(
    rng: np.random.Generator, zoom: tuple[float, float] = (1.4, 2.0), z: float = 0.0
) -> Scene:
    """Draw a scene whose target's longest side at height z is the crop's side over ``zoom``."""
    classes = int(rng.choice([1, 2, 3, 4, 5], p=[0.25, 0.25, 0.2, 0.15, 0.15]))
    background = SmoothNoise.sample(rng, classes, int(rng.integers(2, 9)))
    air_label = classes
    label = classes + 2
    target = _fit_to_crop(rng, _sample_target(rng, label), float(rng.uniform(*zoom)), z)
    label += LABELS_PER_REGION
    behind: list[Region] = []
    front: list[Region] = []
    for _ in range(int(rng.integers(1, 8))):
        region = _sample_neighbour(rng, label)
        (front if rng.random() < 0.25 else behind).append(region)
        label += LABELS_PER_REGION
    body = _sample_body(rng) if rng.random() < 0.3 else None
    return Scene(background, body, tuple(behind), target, tuple(front), label, air_label)


def _sample_shape(
    rng: np.random.Generator, centre: np.ndarray, radius: float, extent: Extent, tube: float
) -> Shape:
    kind = Tube if rng.random() < tube else Blob
    return kind.sample(rng, centre, radius, extent)


def _sample_interior(rng: np.random.Generator, richness: float) -> dict:
    """What a region has inside and around it; ``richness`` scales the probabilities."""
    kind = rng.random() / richness
    inner: dict = {}
    if kind < 0.25:
        inner["patches"] = SmoothNoise.sample(rng, 1, int(rng.integers(4, 20)))
    elif kind < 0.33:
        inner["level"] = float(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.3 * richness:
        inner["wall"] = float(rng.uniform(0.05, 0.35))
    if rng.random() < 0.35:
        inner["halo"] = float(rng.uniform(0.04, 0.3))
    return inner


def _sample_target(rng: np.random.Generator, label: int) -> Region:
    extent = Extent(0.0, 1.0, rng.uniform(2, 8))
    kind = rng.random()
    richness = 1.0
    if kind < 0.22:
        shapes, richness = _sample_scattered(rng, extent), 2.0
    else:
        shapes = [_sample_shape(rng, np.zeros(2), 0.5, extent, tube=0.2)]
    if 0.32 < kind < 0.55:
        for _ in range(int(rng.integers(1, 4))):
            centre = rng.normal(0, 0.35, 2)
            shapes.append(_sample_shape(rng, centre, rng.uniform(0.15, 0.45), extent, tube=0.4))
    hollow = float(rng.uniform(0.35, 0.75)) if rng.random() < 0.08 else 0.0
    cut = _sample_cut(rng) if 0.22 < kind < 0.37 else None
    interior = _sample_interior(rng, richness)
    return Region(tuple(shapes), label, hollow=hollow, cut=cut, **interior)


def _sample_cut(rng: np.random.Generator) -> Blob:
    """A bite that leaves a crescent, as a lung's base or a muscle around a bone shows."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9)
    centre = distance * np.array([np.cos(angle), np.sin(angle)])
    return Blob.sample(rng, centre, rng.uniform(0.35, 0.9), Extent(0.0, 100.0, 4.0))


def _sample_scattered(rng: np.random.Generator, extent: Extent) -> list[Shape]:
    """Several parts of one target, as a bowel loop or a vertebra shows on one slice."""
    shapes = []
    for _ in range(int(rng.integers(2, 7))):
        radius = float(np.exp(rng.uniform(np.log(0.08), np.log(0.35))))
        shapes.append(_sample_shape(rng, rng.uniform(-0.6, 0.6, 2), radius, extent, tube=0.35))
    return shapes


def _fit_to_crop(rng: np.random.Generator, region: Region, zoom: float, z: float) -> Region:
    """Scale and shift a region so that its box at height z fits the crop like a prompted organ."""
    centre = rng.uniform(-0.04, 0.04, 2)
    region = dataclasses.replace(region, scale=0.5)
    for _ in range(2):  # the second pass measures on the fitted region, where pixels are small
        rho = region.field(z, 48)
        if rho is None or not (rho < 1).any():
            return region
        low, high = _box_in_crop(rho < 1)
        scale = region.scale * 2 / zoom / float((high - low).max())
        middle = ((low + high) / 2 - region.shift) / region.scale
        shift = centre - scale * middle
        region = dataclasses.replace(region, scale=scale, shift=(float(shift[0]), float(shift[1])))
    return region


def _box_in_crop(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of a mask's box in scene units."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])
    return low / mask.shape[0] * 2 - 1, high / mask.shape[0] * 2 - 1


def _sample_neighbour(rng: np.random.Generator, label: int) -> Region:
    radius = float(np.exp(rng.uniform(np.log(0.06), np.log(0.9))))
    if rng.random() < 0.75:  # somewhere around the target, so that the two often touch
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.75) + radius * 0.8
        centre = distance * np.array([np.cos(angle), np.sin(angle)])
    else:
        centre = rng.uniform(-1, 1, 2)
    shape = _sample_shape(rng, centre, radius, Extent.sample(rng), tube=0.25)
    hollow = float(rng.uniform(0.4, 0.8)) if rng.random() < 0.1 else 0.0
    return Region((shape,), label, hollow=hollow, **_sample_interior(rng, 0.6))


def _sample_body(rng: np.random.Generator) -> Blob:
    """A large outline with air around it, whose edge crosses the crop."""
    radius, angle = rng.uniform(1.2, 4.0), rng.uniform(0, 2 * np.pi)
    centre = -(radius - rng.uniform(0.5, 1.1)) * np.array([np.cos(angle), np.sin(angle)])
    smooth = np.zeros((2, 1), complex)
    extent = Extent(0.0, 100.0, 4.0)
    return Blob(centre, rng.normal(0, 0.05, 2), radius, 1.0, 0.0, 0.0, smooth, extent)
