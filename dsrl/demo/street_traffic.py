"""What moves in a drawn street: cars, buses, trucks, people, bicycles.

Every function draws one thing onto a canvas. Lengths in metres; `z` is the distance to its near
end, `oncoming` tells whether it shows its front.
"""

from itertools import pairwise

import numpy as np

from dsrl.demo.street_canvas import (
    BLACK,
    RED,
    WHITE,
    Canvas,
    Color,
    Label,
    Point,
    across,
    flat,
    mix,
    pick,
    tone,
    upright,
)

GLASS: Color = (38, 46, 54)
PAINTS: tuple[Color, ...] = (
    *((40, 42, 46), (200, 202, 204), (150, 154, 158), (228, 228, 224), (150, 28, 30)),
    *((36, 62, 120), (70, 84, 74), (196, 160, 60), (96, 102, 110), (28, 40, 60)),
)
CLOTHES: tuple[Color, ...] = (
    *((40, 48, 70), (150, 40, 40), (60, 90, 60), (200, 190, 170), (70, 70, 76), (30, 30, 34)),
    *((190, 140, 50), (90, 60, 110), (60, 110, 150), (210, 210, 214)),
)
SKINS: tuple[Color, ...] = ((224, 178, 146), (196, 148, 112), (140, 96, 70), (96, 66, 50))
# Outlines from the rear to the front: metres along the car, metres above the ground.
Outline = tuple[tuple[float, float], ...]
HATCHBACK: Outline = (
    *((0.0, 0.3), (0.0, 0.92), (0.5, 1.42), (2.2, 1.47), (3.0, 0.97), (4.0, 0.8), (4.1, 0.3)),
)
SALOON: Outline = (
    *((0.0, 0.3), (0.0, 0.94), (0.6, 0.99), (1.3, 1.4), (2.5, 1.44), (3.3, 0.97)),
    *((4.4, 0.8), (4.5, 0.3)),
)
ESTATE: Outline = (
    *((0.0, 0.3), (0.0, 1.0), (0.3, 1.64), (2.7, 1.7), (3.4, 1.02), (4.5, 0.88), (4.6, 0.3)),
)
BELT = 1.03  # metres; glass begins above it
HALF_WIDTH = 0.88


def _half_width(y: float) -> float:
    return HALF_WIDTH - 0.42 * max(0.0, y - BELT)


def car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, oncoming: bool) -> None:
    """Draw a car that drives or stands along the road."""
    outline = (HATCHBACK, SALOON, ESTATE)[rng.integers(3)]
    paint = pick(rng, PAINTS)
    length = outline[-1][0]
    profile = [(z + (length - s if oncoming else s), y) for s, y in outline]
    canvas.tint(flat(x - 1.1, x + 1.1, z - 0.25, z + length + 0.2), BLACK, 120)
    for tyre in (x - 0.72, x + 0.72):
        canvas.polygon(across(tyre - 0.13, tyre + 0.13, 0, 0.4, z + 0.5), BLACK, Label.CAR)
    _shell(canvas, x, profile, paint)
    _flank(canvas, x, profile, paint, length)
    _end(canvas, x, z, paint, oncoming)


def _shell(canvas: Canvas, x: float, profile: list[tuple[float, float]], paint: Color) -> None:
    """Draw bonnet, windows and roof: what spans the car from side to side, far parts first."""
    strips = sorted(pairwise(profile), key=lambda s: -s[0][0] - s[1][0])
    for (z0, y0), (z1, y1) in strips:
        corners = []
        for z, y, sign in ((z0, y0, -1), (z0, y0, 1), (z1, y1, 1), (z1, y1, -1)):
            corners.append((x + sign * _half_width(y), y, z))
        slanted = max(y0, y1) > 1.3 and abs(y1 - y0) > 0.2
        pane = mix(GLASS, canvas.light.sky_bottom, 0.25)
        canvas.polygon(corners, pane if slanted else tone(paint, 1.15), Label.CAR)
        if slanted:
            canvas.line([corners[0], corners[3]], 0.05, paint, None)
            canvas.line([corners[1], corners[2]], 0.05, paint, None)


def _flank(
    canvas: Canvas, x: float, profile: list[tuple[float, float]], paint: Color, length: float
) -> None:
    """Draw the side that the camera sees."""
    sign = 1 if canvas.camera.x > x else -1
    shade = tone(paint, 0.95 if sign == canvas.light.sun_side else 0.95 * canvas.light.contrast)
    low: list[Point] = [(x + sign * HALF_WIDTH, min(y, BELT), z) for z, y in profile]
    cabin = [(z, y) for z, y in profile if y > 1.2]
    canvas.polygon(low, shade, Label.CAR)
    feet = [
        (z0 + (z1 - z0) * (BELT - y0) / (y1 - y0))
        for (z0, y0), (z1, y1) in pairwise(profile[1:])
        if (y0 - BELT) * (y1 - BELT) < 0
    ]
    ring = [(feet[0], BELT - 0.02), *cabin, (feet[-1], BELT - 0.02)]
    middle = sum(z for z, _ in ring) / len(ring)
    for shrink, color in ((1.0, shade), (0.86, GLASS)):
        points = [
            (x + sign * _half_width(y), 1.2 + (y - 1.2) * shrink, middle + (z - middle) * shrink)
            for z, y in ring
        ]
        canvas.polygon(points, color, Label.CAR)
    canvas.line([(points[0][0], BELT, middle), (points[0][0], 1.42, middle)], 0.08, shade, None)
    start = min(z for z, _ in profile)
    _wheels(canvas, x + sign * HALF_WIDTH, (start + 0.75, start + length - 0.8), 0.32, Label.CAR)


def _wheels(
    canvas: Canvas, x: float, axles: tuple[float, float], radius: float, label: Label
) -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for axle in sorted(axles, reverse=True):
        for scale, color in ((1.0, BLACK), (0.55, (120, 122, 126))):
            rim = [
                (x, radius + scale * radius * float(s), axle + scale * radius * float(c))
                for s, c in zip(np.sin(angles), np.cos(angles), strict=True)
            ]
            canvas.polygon(rim, color, label)


def _end(canvas: Canvas, x: float, z: float, paint: Color, oncoming: bool) -> None:
    """Draw the rear or the front: bumper, lamps, plate."""
    top = 0.78 if oncoming else 0.93
    face = tone(paint, 0.85)
    wide = HALF_WIDTH
    outline = [(x - wide, 0.35), (x - wide, top - 0.12), (x - wide * 0.9, top)]
    outline += [(2 * x - column, row) for column, row in reversed(outline)]
    canvas.polygon([(column, row, z) for column, row in outline], face, Label.CAR)
    canvas.polygon(across(x - wide, x + wide, 0.25, 0.48, z), tone(face, 0.55), Label.CAR)
    for sign in (-1, 1):
        inner, outer = x + sign * 0.55, x + sign * 0.85
        lamp = (250, 246, 226) if oncoming else (200, 30, 30)
        canvas.polygon(across(inner, outer, top - 0.27, top - 0.12, z), lamp, None)
        if canvas.light.dusk:
            canvas.disc((x + sign * 0.7, top - 0.2, z), 0.12, mix(lamp, WHITE, 0.4), None)
    if oncoming:
        canvas.polygon(across(x - 0.45, x + 0.45, 0.5, 0.66, z), BLACK, None)
    canvas.polygon(across(x - 0.26, x + 0.26, 0.42, 0.53, z), WHITE, None)


def box_vehicle(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, oncoming: bool, label: Label
) -> None:
    """Draw a bus (glass all along) or a truck (a plain box)."""
    bus = label is Label.BUS
    length, height, wide = rng.uniform(9, 12) if bus else rng.uniform(6, 9), 3.0, 1.22
    paint = pick(rng, PAINTS)
    sign = 1 if canvas.camera.x > x else -1
    shade = tone(paint, 0.95 if sign == canvas.light.sun_side else 0.95 * canvas.light.contrast)
    flank = x + sign * wide
    canvas.tint(flat(x - 1.5, x + 1.5, z - 0.3, z + length + 0.3), BLACK, 120)
    for tyre in (x - 0.95, x + 0.95):
        canvas.polygon(across(tyre - 0.2, tyre + 0.2, 0, 0.5, z + 0.6), BLACK, label)
    canvas.polygon(upright(flank, z, z + length, 0.4, height), shade, label)
    if bus:
        canvas.polygon(upright(flank, z + 0.3, z + length - 0.3, 1.35, 2.5), GLASS, None)
        for post in np.arange(z + 1.8, z + length, 1.6):
            canvas.line([(flank, 1.35, post), (flank, 2.5, post)], 0.1, shade, None)
    else:
        stripe = upright(flank, z + 0.5, z + length - 0.5, 1.5, 1.9)
        canvas.polygon(stripe, mix(shade, WHITE, 0.6), None)
    _wheels(canvas, flank, (z + 1.6, z + length - 1.8), 0.48, label)
    canvas.polygon(across(x - wide, x + wide, 0.35, height, z), tone(paint, 0.88), label)
    if bus:
        canvas.polygon(across(x - 1.08, x + 1.08, 1.25, 2.55, z), GLASS, None)
        canvas.polygon(across(x - 0.6, x + 0.6, 2.65, 2.9, z), (230, 170, 60), None)
    elif oncoming:
        canvas.polygon(across(x - 1.05, x + 1.05, 1.45, 2.2, z), GLASS, None)
        canvas.polygon(across(x - wide, x + wide, 2.4, height, z), mix(paint, WHITE, 0.6), None)
        canvas.polygon(across(x - 0.7, x + 0.7, 0.75, 1.25, z), BLACK, None)
    else:
        canvas.line([(x, 0.6, z), (x, 2.9, z)], 0.05, BLACK, None)
    for lamp in (x - 1.0, x + 1.0):
        color = (250, 246, 226) if oncoming else RED
        canvas.polygon(across(lamp - 0.14, lamp + 0.14, 0.6, 0.85, z), color, None)
    canvas.polygon(across(x - wide, x + wide, 0.35, 0.52, z), BLACK, None)


def person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw somebody who walks or stands; the stride points along or across the road."""
    size = rng.uniform(0.9, 1.08)
    stride = rng.uniform(-0.32, 0.32)
    jacket, trousers, skin = pick(rng, CLOTHES), pick(rng, CLOTHES), pick(rng, SKINS)

    def at(right: float, up: float) -> Point:
        return x + right * size, up * size, z

    canvas.tint(flat(x - 0.3, x + 0.3, z - 0.2, z + 0.2), BLACK, 110)
    for foot in (-stride, stride):
        leg = [at(-0.07 if foot < 0 else 0.07, 0.88), at(foot * 0.6, 0.45), at(foot, 0.06)]
        canvas.line(leg, 0.14, trousers, Label.PERSON)
        canvas.line([at(foot - 0.04, 0.05), at(foot + 0.12, 0.05)], 0.1, BLACK, Label.PERSON)
    for swing in (-1, 1):
        hand = swing * 0.22 - stride * 0.7
        arm = [at(swing * 0.2, 1.4), at(swing * 0.27, 1.12), at(hand, 0.86)]
        canvas.line(arm, 0.1, tone(jacket, 0.85), Label.PERSON)
    torso = [at(-0.22, 1.46), at(0.22, 1.46), at(0.17, 0.82), at(-0.17, 0.82)]
    canvas.polygon(torso, jacket, Label.PERSON)
    canvas.disc(at(0, 1.62), 0.12 * size, skin, Label.PERSON, 1.2)
    canvas.disc(at(0, 1.7), 0.115 * size, pick(rng, (BLACK, (90, 62, 40))), Label.PERSON, 0.7)
    if rng.random() < 0.35:
        bag = [at(0.2, 1.0), at(0.34, 1.0), at(0.34, 0.7), at(0.2, 0.7)]
        canvas.polygon(bag, pick(rng, CLOTHES), Label.PERSON)


def bicycle(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float, ridden: bool
) -> None:
    """Draw a bicycle. `turn`: radians, 0 is seen from the side, pi/2 from behind."""
    right, ahead = float(np.cos(turn)), float(np.sin(turn))
    paint = pick(rng, PAINTS)

    def at(along: float, up: float) -> Point:
        return x + along * right, up, max(z + along * ahead, 1.0)

    angles = np.linspace(0, 2 * np.pi, 15)
    for hub in (0.52, -0.52):
        rim = [
            at(hub + 0.33 * float(c), 0.34 + 0.33 * float(s))
            for c, s in zip(np.cos(angles), np.sin(angles), strict=True)
        ]
        canvas.line(rim, 0.045, BLACK, Label.BICYCLE)
    crank, seat, head = at(-0.06, 0.32), at(-0.2, 0.86), at(0.36, 0.84)
    for tube in ([at(-0.52, 0.34), crank, head, seat, crank], [at(-0.52, 0.34), seat]):
        canvas.line(tube, 0.045, paint, Label.BICYCLE)
    canvas.line([at(0.52, 0.34), head, at(0.34, 1.0)], 0.045, paint, Label.BICYCLE)
    canvas.line([at(0.26, 1.03), at(0.44, 1.0)], 0.05, BLACK, Label.BICYCLE)
    canvas.line([at(-0.32, 0.92), at(-0.1, 0.92)], 0.07, BLACK, Label.BICYCLE)
    if ridden:
        _rider(canvas, rng, [at(-0.2, 1.0), at(0.08, 1.5), at(0.38, 1.06)], crank, at(0.16, 0.72))


def _rider(
    canvas: Canvas, rng: np.random.Generator, spine: list[Point], foot: Point, knee: Point
) -> None:
    """Draw the rider; `spine` is hip, shoulder, hand."""
    hip, shoulder, hand = spine
    jacket, trousers = pick(rng, CLOTHES), pick(rng, CLOTHES)
    canvas.line([hip, knee, foot], 0.15, trousers, Label.RIDER)
    canvas.line([hip, shoulder], 0.34, jacket, Label.RIDER)
    canvas.disc(shoulder, 0.17, jacket, Label.RIDER)
    elbow = ((shoulder[0] + hand[0]) / 2, hand[1] + 0.08, hand[2])
    canvas.line([shoulder, elbow, hand], 0.1, tone(jacket, 0.85), Label.RIDER)
    skull = (shoulder[0] + (hand[0] - shoulder[0]) * 0.3, shoulder[1] + 0.24, shoulder[2])
    canvas.disc(skull, 0.12, pick(rng, SKINS), Label.RIDER, 1.2)
    helmet = (skull[0], skull[1] + 0.07, skull[2])
    canvas.disc(helmet, 0.14, pick(rng, CLOTHES), Label.RIDER, 0.7)
