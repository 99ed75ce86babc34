"""What stands along a drawn street: buildings, trees, fences, poles, signs, lights.

Every function draws one thing onto a canvas. Lengths in metres; `z` is the distance ahead, `side`
is -1 on the left of the road and 1 on its right.
"""

import numpy as np

from dsrl.demo.street_canvas import (
    BLACK,
    LIT,
    METAL,
    RED,
    WHITE,
    Canvas,
    Color,
    Label,
    across,
    flat,
    mix,
    pick,
    tone,
    upright,
)

GLASS: Color = (50, 62, 74)
# Plaster shares its greys and sands with the pavement: colour alone must not tell them apart.
FACADES: tuple[Color, ...] = (
    *((214, 200, 172), (196, 164, 122), (168, 92, 72), (146, 142, 138), (204, 196, 190)),
    *((178, 150, 140), (222, 206, 150), (150, 164, 168), (126, 104, 92), (190, 120, 90)),
)
ROOFS: tuple[Color, ...] = ((122, 62, 48), (84, 74, 74), (96, 88, 84), (140, 80, 58))
LEAVES: tuple[Color, ...] = (
    *((66, 98, 42), (82, 108, 46), (54, 90, 56), (108, 114, 50), (66, 98, 42), (150, 100, 44)),
)
TRUNK: Color = (74, 58, 46)
AWNINGS: tuple[Color, ...] = ((150, 44, 40), (40, 84, 70), (206, 170, 80), (60, 76, 120))


def building(
    canvas: Canvas, rng: np.random.Generator, side: int, x: float, z0: float, z1: float
) -> None:
    """Draw a house whose facade stands along the road from `z0` to `z1`."""
    storey = rng.uniform(2.9, 3.5)
    storeys = int(rng.integers(2, 7))
    top = storeys * storey + 0.8
    color = pick(rng, FACADES)
    face = tone(color, 1.1 if side != canvas.light.sun_side else canvas.light.contrast)
    gable = tone(color, canvas.light.contrast * 0.92)
    roof = pick(rng, ROOFS)
    canvas.polygon(across(x, x + side * 12, 0, top, z0), gable, Label.BUILDING)
    ridge = top + rng.uniform(1.5, 4.0)
    pitch = [(x, top, z0), (x + side * 4, ridge, z0), (x + side * 4, ridge, z1), (x, top, z1)]
    canvas.polygon(pitch, roof, Label.BUILDING)
    canvas.polygon(
        [(x, top, z0), (x + side * 4, ridge, z0), (x + side * 8, top, z0)], gable, Label.BUILDING
    )
    canvas.polygon(upright(x, z0, z1, 0, top), face, Label.BUILDING)
    canvas.polygon(upright(x, z0, z1, 0, 0.7), tone(face, 0.75), Label.BUILDING)
    canvas.polygon(upright(x, z0, z1, top - 0.35, top), tone(face, 1.15), Label.BUILDING)
    _windows(canvas, rng, x, (z0, z1), storey, storeys, face)
    _ground_floor(canvas, rng, side, x, (z0, z1), storey, face)


def _windows(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    span: tuple[float, float],
    storey: float,
    storeys: int,
    face: Color,
) -> None:
    columns = max(1, round((span[1] - span[0]) / rng.uniform(2.2, 3.4)))
    step = (span[1] - span[0]) / columns
    margin, tall = step * rng.uniform(0.2, 0.32), storey * rng.uniform(0.45, 0.65)
    frame = mix(face, WHITE, 0.7) if rng.random() < 0.7 else tone(face, 0.6)
    glass = mix(GLASS, canvas.light.sky_bottom, rng.uniform(0.05, 0.35))
    for column in range(columns):
        start = span[0] + column * step + margin
        end = start + step - 2 * margin
        if start < 1.5 or not canvas.sees([(x, 0, start), (x, 0, end)]):
            continue
        detailed = canvas.pixels(0.12, end) > 1
        for floor in range(1, storeys):
            sill = floor * storey + 0.6
            if detailed:
                around = upright(x, start - 0.13, end + 0.13, sill - 0.16, sill + tall + 0.1)
                canvas.polygon(around, frame, None)
            lit = canvas.light.dusk and rng.random() < 0.45
            shade = LIT if lit else tone(glass, 0.8 + 0.4 * rng.random())
            canvas.polygon(upright(x, start, end, sill, sill + tall), shade, None)
            if detailed:
                middle = (start + end) / 2
                canvas.line([(x, sill, middle), (x, sill + tall, middle)], 0.06, frame, None)


def _ground_floor(
    canvas: Canvas,
    rng: np.random.Generator,
    side: int,
    x: float,
    span: tuple[float, float],
    storey: float,
    face: Color,
) -> None:
    """Draw shop windows with their awnings and name boards, or a row of doors."""
    shop = rng.random() < 0.6
    step = rng.uniform(2.5, 4.0)
    awning = pick(rng, AWNINGS)
    for start in np.arange(span[0] + 0.4, span[1] - step, step):
        if start < 1.5 or not canvas.sees([(x, 0, start), (x, 0, start + step)]):
            continue
        end = start + step - 0.5
        shade = LIT if canvas.light.dusk and shop else tone(GLASS, 0.7 + 0.5 * rng.random())
        if shop:
            canvas.polygon(upright(x, start, end, 0.4, 2.5), shade, None)
            canvas.polygon(upright(x, start, end, 2.55, storey), tone(awning, 0.8), None)
            edge = x - side * 1.1
            cloth = [(x, 2.7, start), (x, 2.7, end), (edge, 2.2, end), (edge, 2.2, start)]
            canvas.polygon(cloth, awning, Label.BUILDING)
        else:
            canvas.polygon(upright(x, start, start + 1.1, 0, 2.2), tone(face, 0.5), None)
            canvas.polygon(upright(x, start + 1.6, end, 1.0, 2.3), shade, None)


def foliage(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    wide: float,
    tall: float,
    color: Color,
) -> None:
    """Draw leaves as many small discs, dark below and away from the sun, light above."""
    x, y, z = centre
    count = int(np.clip(canvas.pixels(wide, z) * 0.9, 10, 90))
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = np.sqrt(rng.random(count))
    right, up = reach * np.cos(angle), reach * np.sin(angle)
    sizes = rng.uniform(0.14, 0.36, count) * (1.25 - 0.6 * reach)
    brightness = 0.72 + 0.28 * up + 0.12 * right * canvas.light.sun_side
    brightness += rng.uniform(-0.12, 0.12, count)
    order = np.argsort(brightness + 0.5 * (reach < 0.3))
    canvas.disc((x, y, z), wide * 0.7, tone(color, 0.6), Label.VEGETATION, tall / wide)
    for index in order:
        leaf = (x + wide * right[index], y + tall * up[index], z)
        shade = tone(color, max(0.35, float(brightness[index]) * 1.25))
        canvas.disc(leaf, wide * float(sizes[index]), shade, Label.VEGETATION, 0.9)


def tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    height, wide = rng.uniform(4.5, 9.0), rng.uniform(1.2, 2.4)
    color = pick(rng, LEAVES)
    crown = height * 0.68
    lean = rng.uniform(-0.2, 0.2)
    canvas.tint(flat(x - 0.5, x + 0.5, z - 0.3, z + 0.3), BLACK, 80)
    canvas.line([(x, 0, z), (x + lean, crown, z)], 0.26, TRUNK, Label.VEGETATION)
    for branch in rng.uniform(-wide * 0.6, wide * 0.6, 3):
        fork = (x + lean * 0.7, crown * 0.7, z)
        canvas.line([fork, (x + branch, crown, z)], 0.12, TRUNK, Label.VEGETATION)
    foliage(canvas, rng, (x + lean, crown, z), wide, height * 0.32, color)


def bush(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    wide = rng.uniform(0.6, 1.4)
    foliage(canvas, rng, (x, wide * 0.5, z), wide, wide * 0.55, pick(rng, LEAVES[:4]))


def fence_color(rng: np.random.Generator) -> Color:
    return mix(METAL, BLACK, rng.random()) if rng.random() < 0.7 else (150, 118, 84)


def fence(canvas: Canvas, x: float, z0: float, z1: float, height: float, color: Color) -> None:
    """Draw upright bars between two rails, along the road."""
    z = z1
    while z > z0:
        canvas.line([(x, 0, z), (x, height, z)], 0.035, color, Label.FENCE)
        # Far away the bars would close to a wall: leave gaps that the label can still show.
        drift = max(abs(x - canvas.camera.x), 0.5) * canvas.camera.focal / z**2
        z -= max(0.22, 6 / drift)
    for y in (0.12, height):
        rail = [(x, y, max(z0, 1.5)), (x, y, (z0 + z1) / 2), (x, y, z1)]
        for piece in (rail[:2], rail[1:]):
            near, far = piece[0][2], piece[1][2]
            canvas.polygon(upright(x, near, far, y - 0.05, y), color, Label.FENCE)
            canvas.line(piece[::-1], 0.03, color, Label.FENCE)


def wall(
    canvas: Canvas, rng: np.random.Generator, side: int, x: float, z0: float, z1: float
) -> None:
    """Draw a low wall with its coping along the road."""
    color = pick(rng, FACADES)
    face = tone(color, 0.9 if side != canvas.light.sun_side else canvas.light.contrast * 0.9)
    height = rng.uniform(1.0, 2.0)
    canvas.polygon(upright(x, z0, z1, 0, height), face, Label.WALL)
    for y in np.arange(0.3, height, 0.3):
        canvas.line([(x, y, z1), (x, y, max(z0, 1.5))], 0.02, tone(face, 0.8), None)
    canvas.polygon(upright(x, z0, z1, height - 0.12, height), tone(face, 1.2), Label.WALL)


def lamp_post(
    canvas: Canvas, rng: np.random.Generator, side: int, x: float, z: float, height: float
) -> None:
    """Draw a lamp post whose arm reaches over the road."""
    tip = x - side * rng.uniform(1.2, 2.2)
    color = tone(METAL, rng.uniform(0.55, 1.2))
    canvas.line([(x, 0, z), (x, 0.9, z)], 0.2, color, Label.POLE)
    canvas.line([(x, 0, z), (x, height, z)], 0.11, color, Label.POLE)
    bow = [(x, height, z), ((x + tip) / 2, height + 0.5, z), (tip, height + 0.45, z)]
    canvas.line(bow, 0.07, color, Label.POLE)
    head = across(tip - 0.35, tip + 0.35, height + 0.32, height + 0.48, z)
    canvas.polygon(head, LIT if canvas.light.dusk else tone(color, 1.3), Label.POLE)
    if canvas.light.dusk:
        canvas.disc((tip, height + 0.3, z), 0.22, (255, 240, 205), None)


def traffic_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw one or two signs on a thin post."""
    height = rng.uniform(2.2, 3.0)
    canvas.line([(x, 0, z), (x, height + 0.2, z)], 0.07, METAL, Label.POLE)
    for y in (height, height - 0.76)[: int(rng.integers(1, 3))]:
        _plate(canvas, rng, x, y, z)


def _plate(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    kind = rng.integers(5)
    blue: Color = (28, 78, 160)
    size = 0.34
    if kind == 0:  # prohibition or speed limit
        canvas.disc((x, y, z), size, RED, Label.TRAFFIC_SIGN)
        canvas.disc((x, y, z), size * 0.72, WHITE, None)
        canvas.line([(x - 0.12, y, z), (x + 0.14, y, z)], 0.16, BLACK, None)
    elif kind == 1:  # mandatory direction
        canvas.disc((x, y, z), size, blue, Label.TRAFFIC_SIGN)
        canvas.line([(x, y - 0.2, z), (x, y + 0.2, z)], 0.09, WHITE, None)
    elif kind == 2:  # give way
        for scale, color in ((1.0, RED), (0.6, WHITE)):
            low, high, half = y - 0.4 * scale, y + 0.32 * scale, 0.42 * scale
            corners = [(x, low, z), (x - half, high, z), (x + half, high, z)]
            canvas.polygon(corners, color, Label.TRAFFIC_SIGN)
    elif kind == 3:  # priority road
        for scale, color in ((1.0, WHITE), (0.72, (236, 184, 40))):
            r = 0.42 * scale
            corners = [(x, y - r, z), (x - r, y, z), (x, y + r, z), (x + r, y, z)]
            canvas.polygon(corners, color, Label.TRAFFIC_SIGN)
    else:  # crossing or parking
        canvas.polygon(across(x - size, x + size, y - size, y + size, z), WHITE, Label.TRAFFIC_SIGN)
        canvas.polygon(across(x - 0.32, x + 0.32, y - 0.32, y + 0.32, z), blue, None)
        canvas.line([(x - 0.1, y - 0.2, z), (x - 0.1, y + 0.22, z)], 0.1, WHITE, None)


def traffic_light(
    canvas: Canvas, rng: np.random.Generator, side: int, x: float, z: float, overhead: bool
) -> None:
    """Draw a signal on its post, and a second one on an arm above the road if `overhead`."""
    top = 5.4 if overhead else 3.2
    canvas.line([(x, 0, z), (x, top, z)], 0.13, METAL, Label.POLE)
    phase = int(rng.integers(3))
    places = [(x - side * 0.05, 2.7)]
    if overhead:
        reach = x - side * rng.uniform(2.5, 4.0)
        canvas.line([(x, top, z), (reach, top, z)], 0.09, METAL, Label.POLE)
        places.append((reach, top - 0.3))
    for column, row in places:
        box = across(column - 0.19, column + 0.19, row - 0.52, row + 0.52, z)
        canvas.polygon(box, (30, 32, 30), Label.TRAFFIC_LIGHT)
        colors: tuple[Color, ...] = ((250, 60, 48), (252, 190, 60), (70, 230, 130))
        for lamp, color in enumerate(colors):
            shade = color if lamp == phase else tone(color, 0.22)
            canvas.disc((column, row + 0.32 - 0.32 * lamp, z), 0.12, shade, None)


def bollards(canvas: Canvas, x: float, z0: float, z1: float) -> None:
    """Draw short posts with a light band, 1.6 m apart."""
    for z in np.arange(z1, z0, -1.6):
        canvas.line([(x, 0, z), (x, 0.95, z)], 0.11, METAL, Label.POLE)
        canvas.line([(x, 0.75, z), (x, 0.88, z)], 0.11, WHITE, None)


def hoop(canvas: Canvas, x: float, z: float) -> None:
    """Draw a rail to lean bicycles on."""
    bow = [(x - 0.4, 0, z), (x - 0.4, 0.8, z), (x + 0.4, 0.8, z), (x + 0.4, 0, z)]
    canvas.line(bow, 0.05, METAL, Label.FENCE)
