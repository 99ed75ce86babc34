"""A picture in perspective and its label, painted from faces: polygons of one colour each."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dsrl.demo.shapes import Label, Polygon

SUPERSAMPLING = 2  # drawn pixels per pixel of the result, along each side
NEAR = 1.0  # metres; nothing nearer to the camera can be projected
# Zenith, haze, sunlight, light in the shade: noon, morning, evening, overcast.
DAYS = (
    ((66, 128, 200), (198, 222, 238), (0.66, 0.60, 0.48), (0.54, 0.59, 0.68)),
    ((104, 158, 210), (242, 230, 212), (0.70, 0.60, 0.44), (0.55, 0.58, 0.65)),
    ((92, 122, 182), (254, 212, 166), (0.78, 0.56, 0.32), (0.54, 0.55, 0.66)),
    ((146, 162, 182), (214, 219, 224), (0.26, 0.26, 0.25), (0.76, 0.78, 0.80)),
)
GROUND = Label.ROAD, Label.SIDEWALK, Label.TERRAIN
ROUGHNESS = np.zeros(256)  # of a label's surfaces, in grey levels
ROUGHNESS[[*GROUND, Label.VEGETATION, Label.BUILDING]] = 8, 6, 14, 10, 3


class Face(NamedTuple):
    corners: Polygon
    color: np.ndarray
    label: Label
    distance: float  # metres; of the thing that it is part of


class Picture:
    """Picture and label, supersampled, with camera and weather from random numbers."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = rows, columns = height * SUPERSAMPLING, width * SUPERSAMPLING
        self.eye = np.array([rng.uniform(1.3, 2.2), rng.uniform(1.6, 2.1), 0])  # metres
        self.focal = rows * rng.uniform(1.1, 1.35)
        self.horizon, self.centre = rows * rng.uniform(0.42, 0.52), columns * rng.uniform(0.4, 0.6)
        day = DAYS[rng.choice(len(DAYS), p=(0.35, 0.25, 0.25, 0.15))]
        zenith, self.haze, self.sunlight, self.shade = map(np.array, day)
        self.visibility = rng.uniform(90, 250)  # metres
        sun = np.array([rng.choice((-1, 1)) * rng.uniform(0.5, 1), 0.8, rng.uniform(-0.9, 0.2)])
        self.sun = sun / np.linalg.norm(sun)  # where it is, seen from the street
        small = rows // 4, columns // 4  # enough for a sky
        up = (1 - 4 * np.arange(small[0])[:, None, None] / self.horizon).clip(0, 1)
        patches = 0.8 * self._noise(small, 5) + 0.35 * self._noise(small, 24)
        clouds = (patches[..., None] + rng.uniform(-1, 0.5)).clip(0, (5 * up).clip(0, 0.9))
        clear = self.haze + (zenith - self.haze) * up**0.7
        sky = clear + (0.4 * self.haze + 150 - clear) * clouds
        self.image = Image.fromarray(sky.clip(0, 255).astype(np.uint8)).resize((columns, rows))
        self.label = Image.new("L", self.image.size, Label.SKY)

    def paint(self, faces: list[Face]) -> None:
        """Draw faces in their order, bright towards the sun and hazy far away."""
        first, second, third = np.stack([face.corners[:3] for face in faces], axis=1)
        normals = np.cross(second - first, third - first)
        normals *= np.sign((normals * (self.eye - first)).sum(axis=1, keepdims=True))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        light = self.shade + (normals @ self.sun).clip(0)[:, None] * self.sunlight
        clear = np.exp(-first[:, 2:].clip(0) / self.visibility)
        colors = clear * light * [face.color for face in faces] + (1 - clear) * self.haze
        paint, mark = ImageDraw.Draw(self.image), ImageDraw.Draw(self.label)
        pixels = self._project([face.corners for face in faces])
        inks = colors.clip(0, 255).astype(int).tolist()
        for face, ink, polygon in zip(faces, inks, pixels, strict=True):
            if polygon:
                paint.polygon(polygon, fill=tuple(ink))
            if polygon and face.label:
                mark.polygon(polygon, fill=face.label)

    def cast_shadows(self, faces: list[Face]) -> None:
        """Darken the ground where faces hide the sun, and right below them."""
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for fall in (self.sun / self.sun[1], np.array([0, 1, 0])):
            shadows = [face.corners - face.corners[:, 1:2] * fall for face in faces]
            for polygon in filter(None, self._project(shadows)):
                draw.polygon(polygon, fill=255)
        soft = mask.reduce(4).filter(ImageFilter.GaussianBlur(0.0015 * mask.height))
        dark = np.asarray(self.image) * (self.shade / (self.shade + 0.7 * self.sunlight))
        self.image.paste(Image.fromarray(dark.astype(np.uint8)), mask=soft.resize(mask.size))

    def develop(self) -> tuple[np.ndarray, np.ndarray]:
        """The picture as a camera takes it, uint8 (H, W, 3), and label ids, uint8 (H, W)."""
        rng, label = self.rng, np.asarray(self.label)[::SUPERSAMPLING, ::SUPERSAMPLING].copy()
        blur = ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6) * len(label) / 256)
        sharp = np.asarray(self.image.reduce(SUPERSAMPLING).filter(blur), np.float32)
        # Roughness lies on the ground in perspective, longer than wide as wheels draw it out.
        rows, columns = (SUPERSAMPLING * axis for axis in np.ogrid[: len(label), : len(label[0])])
        ahead = self.focal * self.eye[1] / (rows - self.horizon).clip(1)
        right = (columns - self.centre) * ahead / self.focal
        tile = self._noise((256, 256), 128) + self._noise((256, 256), 40)
        ground = tile[(ahead / 0.25).astype(int) % 256, (right / 0.08 + 128).astype(int) % 256]
        ground, other = ground / (1 + ahead / 12), self._noise(label.shape, 140)
        rough = ROUGHNESS[label] * np.where(np.isin(label, GROUND), ground, other)
        picture = (sharp + rough[..., None]) * rng.normal(1, 0.03, 3)
        picture += rng.uniform(1, 3.5) * rng.standard_normal(picture.shape, np.float32)
        return picture.clip(0, 255).astype(np.uint8), label

    def _project(self, polygons: list[Polygon]) -> list[list[float]]:
        """Each as [column, row, column, ...]; empty for one beside the picture."""
        x, y, z = (np.concatenate(polygons) - self.eye).T
        scale = self.focal / np.maximum(z, NEAR)
        columns, rows = self.centre + x * scale, self.horizon - y * scale
        sizes = np.array([len(polygon) for polygon in polygons])
        starts = sizes.cumsum() - sizes
        seen = np.maximum.reduceat(columns, starts) >= 0
        seen &= np.minimum.reduceat(columns, starts) < self.size[1]
        bounds = 2 * np.stack([starts, starts + sizes * seen], axis=1)
        flat = np.stack([columns, rows], axis=1).ravel().tolist()
        return [flat[start:end] for start, end in bounds.tolist()]

    def _noise(self, size: tuple[int, ...], patches: int) -> np.ndarray:
        """Smooth random patches, so many along each side: float32 of `size`, (height, width)."""
        coarse = Image.fromarray(self.rng.standard_normal((patches, patches), np.float32))
        return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC))
