"""Street scenes drawn from random numbers: a picture and its Cityscapes label ids.

The scene is laid out in metres (`Street`), sorted by distance and drawn back to front, so that
picture and label agree on what hides what. Weather, light, sensor and camera vary. Poles, fences,
bicycles and limbs are thin on purpose: they are what super-resolution is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from dsrl.demo.street_canvas import (
    BLACK,
    SUPERSAMPLING,
    Camera,
    Canvas,
    Color,
    Label,
    across,
    flat,
    mix,
    tone,
)
from dsrl.demo.street_photo import daylight, develop, paint_sky
from dsrl.demo.street_roadside import (
    bollards,
    building,
    bush,
    fence,
    fence_color,
    foliage,
    hoop,
    lamp_post,
    traffic_light,
    traffic_sign,
    tree,
    wall,
)
from dsrl.demo.street_traffic import bicycle, box_vehicle, car, person

SMALLEST = 32  # pixels; on a smaller picture nothing can be told apart
FAR = 110.0  # metres; nothing is drawn beyond
Thing = tuple[float, Callable[[], None]]  # distance of its far end, and how it is drawn


@dataclass(frozen=True)
class Street:
    """Where things are, in metres right of the road's middle; the left side mirrors it."""

    road: float  # edge of the road
    pavement: float  # inner edge of the pavement; up to it grass, if it is not the road's edge
    facade: float  # outer edge of the pavement
    parking: bool
    crossing: float  # distance of the zebra crossing, infinite if there is none


def draw_street(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the street that the random numbers tell.

    Returns:
        The RGB picture, uint8 (H, W, 3), and its Cityscapes label ids, uint8 (H, W).

    Raises:
        ValueError: the picture would be too small to show anything.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"a street cannot be drawn at {height}x{width}: "
            f"give a height and a width of {SMALLEST} or more"
        )
    light, street = daylight(rng), _street(rng)
    camera = _camera(rng, street, height * SUPERSAMPLING, width * SUPERSAMPLING)
    canvas = Canvas(camera, light, paint_sky(rng, camera, light, height, width), Label.SKY)
    _ground(canvas, rng, street)
    things = [
        *_horizon(canvas, rng),
        *(thing for side in (-1, 1) for thing in _blocks(canvas, rng, street, side)),
        *(thing for side in (-1, 1) for thing in _roadside(canvas, rng, street, side)),
        *_traffic(canvas, rng, street),
        *_people(canvas, rng, street),
    ]
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()
    _wires(canvas, rng, street)
    if rng.random() < 0.5:
        rows = rng.uniform(0.04, 0.09) * height * SUPERSAMPLING
        canvas.bonnet(rows, (38, 40, 46), Label.EGO_VEHICLE)
    label = np.asarray(canvas.label)[::SUPERSAMPLING, ::SUPERSAMPLING].copy()
    return develop(rng, canvas, label), label


def _street(rng: np.random.Generator) -> Street:
    road = rng.uniform(3.4, 6.6)
    pavement = road + (rng.uniform(0.8, 2.0) if rng.random() < 0.3 else 0.0)
    return Street(
        road=road,
        pavement=pavement,
        facade=pavement + rng.uniform(2.2, 4.5),
        parking=bool(road > 4.6),
        crossing=rng.uniform(8, 22) if rng.random() < 0.4 else float("inf"),
    )


def _lane(street: Street) -> float:
    """Middle of the right-hand lane."""
    return (street.road - (2.0 if street.parking else 0.0)) / 2


def _camera(rng: np.random.Generator, street: Street, rows: int, columns: int) -> Camera:
    return Camera(
        focal=rows * rng.uniform(1.15, 1.5),
        horizon=rows * rng.uniform(0.42, 0.52),
        centre=columns * rng.uniform(0.42, 0.58),
        x=_lane(street) + rng.uniform(-0.5, 0.3),
        height=rng.uniform(1.3, 1.7),
        bend=rng.uniform(-0.0014, 0.0014),
    )


def _ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Lay road, kerbs, pavements and grass, in strips that fade with the distance."""
    asphalt = tone((104, 104, 108), rng.uniform(0.75, 1.15))
    paving = mix((158, 152, 146), (176, 148, 128), rng.random())
    paving = tone(paving, rng.uniform(0.8, 1.1))
    grass = mix((104, 120, 62), (142, 132, 84), rng.random())
    kerb = tone(paving, 1.2)
    bands: list[tuple[float, float, Color, Label]] = [
        (-60, 60, grass, Label.TERRAIN),
        (-street.facade, street.facade, paving, Label.SIDEWALK),
        (-street.pavement, street.pavement, grass, Label.TERRAIN),
        (-street.road - 0.18, street.road + 0.18, kerb, Label.SIDEWALK),
        (-street.road, street.road, asphalt, Label.ROAD),
        (-street.road, -street.road + 0.3, tone(asphalt, 0.8), Label.ROAD),
        (street.road - 0.3, street.road, tone(asphalt, 0.8), Label.ROAD),
    ]
    edges = np.geomspace(1.2, FAR * 2.5, 30)
    for near, far in zip(edges[-2::-1], edges[:0:-1], strict=True):
        for left, right, color, label in bands:
            canvas.polygon(flat(left, right, float(near), float(far)), color, label)
    for joint in np.arange(2.5, 26, 1.6):
        for side in (-1, 1):
            ends = [(side * x, 0.0, float(joint)) for x in (street.pavement + 0.2, street.facade)]
            canvas.line(ends, 0.01, tone(paving, 0.86), None)
    for _ in range(int(rng.integers(0, 5))):
        x, z = rng.uniform(-street.road, street.road - 1.5), rng.uniform(3, 20)
        patch = flat(x, x + rng.uniform(0.5, 1.5), z, z + rng.uniform(1, 6))
        canvas.tint(patch, BLACK, int(rng.integers(15, 50)))
    _marks(canvas, rng, street)
    _shade(canvas, rng, street)


def _marks(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Paint lane marks, parking bays and the zebra crossing."""
    paint = tone((226, 224, 216), rng.uniform(0.8, 1.05))
    gap = rng.uniform(3, 6)
    for z in np.arange(1.5 + rng.uniform(0, 3), FAR * 0.7, 3 + gap):
        canvas.polygon(flat(-0.07, 0.07, z, z + 3), paint, None)
    side_line = street.road - (2.1 if street.parking else 0.25)
    pieces = np.geomspace(1.5, FAR * 0.7, 14)
    for near, far in pairwise(pieces):
        for x in (-side_line, side_line):
            canvas.polygon(flat(x - 0.06, x + 0.06, float(near), float(far)), paint, None)
    if np.isfinite(street.crossing):
        for x in np.arange(-street.road + 0.4, street.road - 0.4, 1.0):
            stripe = flat(x, x + 0.5, street.crossing, street.crossing + 3)
            canvas.polygon(stripe, paint, None)


def _shade(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Let the houses on the sun's side throw their shadow over the ground."""
    if canvas.light.contrast > 0.7:
        return
    side = canvas.light.sun_side
    z = 1.2
    while z < 60:
        end = z + rng.uniform(5, 14)
        reach = street.facade - rng.uniform(0.0, 1.1) * street.facade
        canvas.tint(flat(side * reach, side * street.facade, z, end), (20, 26, 48), 95)
        z = end + (rng.uniform(0, 3) if rng.random() < 0.4 else 0)


def _horizon(canvas: Canvas, rng: np.random.Generator) -> list[Thing]:
    """Close the end of the road with trees and distant houses."""
    things: list[Thing] = []
    for x in np.arange(-95, 95, 7.0):
        z = float(rng.uniform(FAR, FAR + 20))
        if rng.random() < 0.4:
            face = tone((150, 146, 150), rng.uniform(0.8, 1.2))
            top = rng.uniform(5, 16)
            box = across(x - 5, x + 5, 0, top, z)
            things.append((z, partial(canvas.polygon, box, face, Label.BUILDING)))
        else:
            size = rng.uniform(3.0, 5.5)
            crown = partial(foliage, canvas, rng, (float(x), size * 0.7, z), 5.5, size)
            things.append((z, partial(crown, (70, 92, 60))))
    return things


def _blocks(canvas: Canvas, rng: np.random.Generator, street: Street, side: int) -> list[Thing]:
    """Line one side with houses, and gardens behind fences or walls between them."""
    things: list[Thing] = []
    z, x = 1.2, side * street.facade
    green = rng.uniform(0.1, 0.45)
    while z < FAR:
        if rng.random() > green:
            end = z + rng.uniform(8, 16)
            inset = x + side * (rng.uniform(0, 1.5) if rng.random() < 0.3 else 0)
            things.append((end, partial(building, canvas, rng, side, inset, z, end)))
        else:
            end = z + rng.uniform(8, 20)
            for _ in range(int(rng.integers(2, 5))):
                place, depth = x + side * rng.uniform(1.5, 9), rng.uniform(max(z, 5), end + 3)
                plant = tree if rng.random() < 0.6 else bush
                # Behind the border, in front of the house that follows.
                things.append((end + depth / FAR, partial(plant, canvas, rng, place, depth)))
            if rng.random() < 0.65:
                border = partial(fence, canvas, x, z, end, rng.uniform(1.0, 1.7), fence_color(rng))
            else:
                border = partial(wall, canvas, rng, side, x, z, end)
            things.append((end, border))
        z = end
    return things


def _roadside(canvas: Canvas, rng: np.random.Generator, street: Street, side: int) -> list[Thing]:
    """Furnish the kerb: lamps, signs, signals, trees, railings, bollards, parked bicycles."""
    things: list[Thing] = []
    x, lamp = side * (street.road + 0.55), rng.uniform(5.5, 8)
    avenue = rng.random() < 0.4
    z = rng.uniform(6, 10)
    while z < FAR * 0.8:
        kind = rng.choice(7, p=(0.22, 0.28, 0.05, 0.12, 0.11, 0.08, 0.14))
        if kind == 3 or (avenue and kind > 4):
            things.append((z, partial(tree, canvas, rng, x, z)))
        elif kind == 0:
            things.append((z, partial(lamp_post, canvas, rng, side, x, z, lamp)))
        elif kind == 1:
            things.append((z, partial(traffic_sign, canvas, rng, x, z)))
        elif kind == 2:
            signal = partial(traffic_light, canvas, rng, side, x, z, rng.random() < 0.4)
            things.append((z, signal))
        elif kind == 4:
            color = fence_color(rng)
            # Panel by panel: people behind the railing and cars before it stand between them.
            for _ in range(int(rng.integers(2, 7))):
                things.append((z + 1, partial(fence, canvas, x, z, z + 2, 1.0, color)))
                z += 2
        elif kind == 5:
            things.append((z + 8, partial(bollards, canvas, x, z, z + 8)))
        else:
            for step in range(int(rng.integers(1, 5))):
                place = side * (street.facade - 0.9)
                depth = z + step * 0.9
                things.append((depth + 0.05, partial(hoop, canvas, place, depth)))
                turn = rng.uniform(-0.3, 0.3)
                things.append((depth, partial(bicycle, canvas, rng, place, depth, turn, False)))
        z += rng.uniform(3.5, 8)
    if np.isfinite(street.crossing):
        near = street.crossing - 0.5
        signal = partial(traffic_light, canvas, rng, side, x, near, rng.random() < 0.5)
        things.append((near, signal))
    return things


def _traffic(canvas: Canvas, rng: np.random.Generator, street: Street) -> list[Thing]:
    """Fill the lanes, and the kerbs if there is room to park."""
    things: list[Thing] = []
    lane = _lane(street)
    for x, oncoming, first in ((lane, False, 10.0), (-lane, True, 7.0)):
        z = first + rng.exponential(12)
        while z < 85:
            kind = rng.random()
            if kind < 0.56:
                things.append((z + 0.1, partial(car, canvas, rng, x, z, oncoming)))
            elif kind < 0.74:
                label = Label.BUS if rng.random() < 0.5 else Label.TRUCK
                draw = partial(box_vehicle, canvas, rng, x, z, oncoming, label)
                things.append((z + 0.1, draw))
            else:
                edge = x + np.sign(x) * rng.uniform(0.3, 0.9)
                turn = np.pi / 2 + rng.uniform(-0.35, 0.35)
                things.append((z, partial(bicycle, canvas, rng, edge, z, turn, True)))
            z += 12 + rng.exponential(16)
    for side in (-1, 1):
        z, fill = rng.uniform(6, 9), rng.uniform(0.2, 0.9)
        while street.parking and z < 75:
            if rng.random() < fill and not -6 < street.crossing - z < 6:
                x = side * (street.road - 1.05)
                things.append((z, partial(car, canvas, rng, x, z, side < 0)))
            z += 5.4
    return things


def _people(canvas: Canvas, rng: np.random.Generator, street: Street) -> list[Thing]:
    """Let people walk on the pavements and over the crossing, and a cyclist pass."""
    things: list[Thing] = []
    for _ in range(int(rng.integers(3, 14))):
        side = rng.choice((-1, 1))
        x = float(side * rng.uniform(street.pavement + 0.5, street.facade - 0.4))
        z = float(rng.uniform(5, 12) if rng.random() < 0.3 else rng.uniform(8, 45))
        things.append((z, partial(person, canvas, rng, x, z)))
    if np.isfinite(street.crossing):
        for _ in range(int(rng.integers(0, 5))):
            x = float(rng.uniform(-street.road, street.road))
            z = street.crossing + float(rng.uniform(0.3, 2.7))
            if rng.random() < 0.25:
                things.append((z, partial(bicycle, canvas, rng, x, z, 0.0, True)))
            else:
                things.append((z, partial(person, canvas, rng, x, z)))
    return things


def _wires(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Span wires over the road; like Cityscapes, the label ignores them."""
    if rng.random() < 0.6:
        return
    for z in np.arange(rng.uniform(8, 14), 60, rng.uniform(12, 20)):
        sag = [
            (x, 7.2 - 0.8 * (1 - (x / street.facade) ** 2), float(z))
            for x in np.linspace(-street.facade, street.facade, 7)
        ]
        canvas.line(sag, 0.02, (52, 54, 58), None)
