"""A canvas in perspective: every stroke goes to the picture and to the label at the same place."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 2  # canvas pixels per image pixel, along each side
# Every second canvas pixel becomes a label pixel, so that a thinner line would have gaps there.
THINNEST = SUPERSAMPLING
NEAR = 1.0  # metres; nothing nearer to the camera can be projected

Color = tuple[int, int, int]
Point = tuple[float, float, float]  # metres: right of the road's middle, above ground, ahead
Pixel = tuple[float, float]


BLACK: Color = (24, 25, 28)
WHITE: Color = (235, 235, 230)
METAL: Color = (92, 97, 101)
GLASS: Color = (50, 62, 74)
LIT: Color = (255, 214, 140)
RED: Color = (190, 32, 34)


class Label(IntEnum):
    """Label ids of Cityscapes."""

    UNLABELED = 0
    EGO_VEHICLE = 1
    ROAD = 7
    SIDEWALK = 8
    BUILDING = 11
    WALL = 12
    FENCE = 13
    POLE = 17
    TRAFFIC_LIGHT = 19
    TRAFFIC_SIGN = 20
    VEGETATION = 21
    TERRAIN = 22
    SKY = 23
    PERSON = 24
    RIDER = 25
    CAR = 26
    TRUCK = 27
    BUS = 28
    BICYCLE = 33


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above a flat, bending road. Lengths in canvas pixels or in metres."""

    focal: float  # pixels
    horizon: float  # pixels from the top
    centre: float  # pixels from the left; where the road vanishes if it is straight
    x: float  # metres right of the road's middle
    height: float  # metres
    bend: float  # 1/metre; sideways shift over the distance squared

    def project(self, point: Point) -> Pixel:
        x, y, z = point
        z = max(z, NEAR)
        scale = self.focal / z
        shift = x - self.x + self.bend * z * z
        return self.centre + shift * scale, self.horizon + (self.height - y) * scale


@dataclass(frozen=True)
class Light:
    """Time of day and weather."""

    sky_top: Color
    sky_bottom: Color  # far things fade into it
    clouds: float  # 0 clear, 1 overcast
    cloud: Color
    haze: float  # 1/metre
    sun_side: int  # -1 left, 1 right
    contrast: float  # brightness of faces in the shade over that of lit ones
    exposure: float
    dusk: bool  # lamps and windows are lit


def tone(color: Color, factor: float) -> Color:
    """Make a colour darker (`factor` < 1) or lighter."""
    red, green, blue = (min(255, int(channel * factor)) for channel in color)
    return red, green, blue


def mix(first: Color, second: Color, share: float) -> Color:
    """Blend two colours; `share` (0..1) is that of the second."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float = 0.15) -> Color:
    """Return one of the colours, up to `spread` darker or lighter."""
    return tone(colors[rng.integers(len(colors))], rng.uniform(1 - spread, 1 + spread))


def upright(x: float, z0: float, z1: float, y0: float, y1: float) -> list[Point]:
    """Return the corners of a rectangle that stands along the road."""
    return [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]


def across(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Point]:
    """Return the corners of a rectangle that faces the camera."""
    return [(x0, y0, z), (x0, y1, z), (x1, y1, z), (x1, y0, z)]


def flat(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> list[Point]:
    """Return the corners of a level rectangle."""
    return [(x0, y, z0), (x0, y, z1), (x1, y, z1), (x1, y, z0)]


class Canvas:
    """Picture and label, both supersampled, that are drawn back to front.

    Strokes with `label=None` (wires, shadows) leave the label as it is: what lies behind counts.
    """

    def __init__(self, camera: Camera, light: Light, backdrop: Image.Image, label: int) -> None:
        self.camera = camera
        self.light = light
        self.image = backdrop
        self.label = Image.new("L", backdrop.size, label)
        self._paint = ImageDraw.Draw(self.image)
        self._blend = ImageDraw.Draw(self.image, "RGBA")
        self._mark = ImageDraw.Draw(self.label)

    def pixels(self, metres: float, z: float) -> float:
        """Length in canvas pixels of something `z` metres ahead."""
        return metres * self.camera.focal / max(z, NEAR)

    def sees(self, points: Iterable[Point]) -> bool:
        """Whether the points span a part of the canvas's width."""
        columns = [self.camera.project(point)[0] for point in points]
        return max(columns) >= 0 and min(columns) < self.image.width

    def _fade(self, color: Color, z: float) -> Color:
        return mix(color, self.light.sky_bottom, 1 - float(np.exp(-self.light.haze * z)))

    def polygon(self, points: Sequence[Point], color: Color, label: int | None) -> None:
        pixels = [self.camera.project(point) for point in points]
        self._paint.polygon(pixels, fill=self._fade(color, min(z for _, _, z in points)))
        if label is not None:
            self._mark.polygon(pixels, fill=label)

    def line(self, points: Sequence[Point], metres: float, color: Color, label: int | None) -> None:
        """Draw a line that is `metres` thick, yet never so thin that the label loses it."""
        z = points[0][2]
        pixels = [self.camera.project(point) for point in points]
        width = max(1 if label is None else THINNEST, round(self.pixels(metres, z)))
        self._paint.line(pixels, fill=self._fade(color, z), width=width)
        if label is not None:
            self._mark.line(pixels, fill=label, width=width)

    def disc(
        self, centre: Point, radius: float, color: Color, label: int | None, squeeze: float = 1.0
    ) -> None:
        """Draw a disc that faces the camera; `squeeze` is its height over its width."""
        column, row = self.camera.project(centre)
        wide = max(self.pixels(radius, centre[2]), THINNEST / 2)
        tall = wide * squeeze
        box = (column - wide, row - tall, column + wide, row + tall)
        self._paint.ellipse(box, fill=self._fade(color, centre[2]))
        if label is not None:
            self._mark.ellipse(box, fill=label)

    def tint(self, points: Sequence[Point], color: Color, alpha: int) -> None:
        """Blend a colour over the picture: shadows, reflections, glow. `alpha`: 0..255."""
        pixels = [self.camera.project(point) for point in points]
        self._blend.polygon(pixels, fill=(*color, alpha))

    def bonnet(self, rows: float, color: Color, label: int) -> None:
        """Draw the camera car's bonnet, `rows` canvas pixels high, along the lower edge."""
        width, height = self.image.size
        for draw, fill in ((self._paint, color), (self._mark, label)):
            draw.ellipse((-0.2 * width, height - rows, 1.2 * width, height + 5 * rows), fill=fill)
        shine = (*self.light.sky_bottom, 45)
        self._blend.ellipse(
            (0.1 * width, height - 0.7 * rows, 0.9 * width, height + 2 * rows), fill=shine
        )
