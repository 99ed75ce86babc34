"""What stands in a street: a table of shapes, and the paints that they come in."""

import re
from collections import defaultdict
from enum import IntEnum

import numpy as np


class Label(IntEnum):
    """Label ids of Cityscapes; NONE leaves the label of what lies behind."""

    NONE, ROAD, SIDEWALK, BUILDING, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 0, 7, 8, 11, 17, 19, 20
    VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, BUS, BICYCLE = 21, 22, 23, 24, 25, 26, 28, 33


# RGB in hexadecimal. A thing comes in one colour of each paint that it needs.
PAINTS = """
asphalt 6c6c72 5c5e66 7a7876 | black 242428 2c2e32 | bright ecb024 c83a30 2c8c84 e27828 425c96
brown 705440 3e2e26 8e6238 262020 | car d6d8da 969ca2 32363e b02628 285496 decca8 407666 78a0be
coat ba2c3e 2c4280 703c80 287070 d6628a 3c3840 9e2254 466eb4 784632 | lawn a2c45a b2ca62 94bc58
glass 3a4a5c 465868 303c4c 5c7080 | green 3cffb4 1e5440 | white f4f2ea e6e2d8
leaves 5c8638 74943c 4a763e 889842 6a8a54 | paving b4aa9e a8a4a2 bea890 b09a8c
plaster e2cdaa d6b28c c48e70 ded6c8 bcc4ba b0bac6 cda096 a87460 d2be8c beb6ac | red ff4632 e62824
roof 965442 7a4a40 5c5e68 706c6e | shine b4bac0 9ea8b0 | sign ce2228 dc322c 1c54b0 2464c8 f4c428
skin e8b898 cc9674 92644a f0c8ac | steel 42484e 344642 60666c 3a3a42 7c8286
amber ffb428 6a4c20 | trousers 2c3454 302e32 4e4c56 604a3a 243e5c | vest d6f032 ff8c1e fadc3c b4ff5a
"""
COLORS = {name: colors for name, *colors in map(str.split, re.split(r"[|\n]", PAINTS.strip()))}
# Shapes: names, label, and parts in the order in which they are drawn. A part is a paint and an
# outline in metres right and up of where the shape stands. After `both` its mirror image belongs to
# it, after a number it is the side of a solid, in metres ahead and up, and the number its width.
TABLE = """
walls  | BUILDING | plaster 1 box 0 0 9 1
roof   | BUILDING | roof 1 poly -.4 0 3 2.6 9 2.6 9 0; white 1 box -.3 -.3 0 0
window | NONE | white box -.75 -.15 .75 1.95; glass box -.6 0 .6 1.8; shine box -.6 1 .6 1.8
shop   | NONE | white box -.46 0 .46 3; glass box -.44 .6 .2 2.7; shine box -.44 1.8 .2 2.7
shop   | NONE | glass box .26 0 .42 2.7; shine box .26 1.8 .42 2.7
shop   | BUILDING | bright 1 poly 0 3.3 -1.2 2.7 0 2.7
car, oncoming car | CAR | black 1.86 disc 3.4 .34 .34; black 1.86 disc .8 .34 .34
car, oncoming car | CAR | car 1.8 poly 0 .3 0 .82 .25 1 3.95 1 4.2 .8 4.2 .3
car, oncoming car | CAR | glass 1.54 poly .3 .98 .85 1.52 2.9 1.52 3.6 .98
car, oncoming car | CAR | car 1.54 box .8 1.5 2.95 1.6; black box -.9 .28 .9 .46
car               | CAR | white box -.28 .5 .28 .66; red both box .46 .6 .86 .84
oncoming car      | CAR | white box -.28 .5 .28 .66; white both box .46 .6 .86 .84
bus | BUS | black 2.62 disc 7.5 .5 .5; black 2.62 disc 1.8 .5 .5
bus | BUS | bright 2.6 poly 0 .4 0 3.1 .3 3.3 10 3.3 10 .4; glass 2.62 box 7.5 1.4 9.7 2.6
bus | BUS | glass 2.62 box 4.4 1.4 7.2 2.6; glass 2.62 box 1.3 1.4 4.1 2.6
bus | BUS | bright box -1.3 .4 1.3 3.1; glass box -1.15 1.25 1.15 2.5; black box -1.1 2.6 1.1 3
bus | BUS | red box -.8 2.7 .8 2.9; white both box .7 .7 1.1 .96
bicycle, cyclist | BICYCLE | black both disc .56 .38 .38; shine both disc .56 .38 .25
bicycle, cyclist | BICYCLE | bright poly -.6 .36 -.2 .92 .05 .34 -.2 .9 .44 .92 .05 .34
bicycle, cyclist | BICYCLE | bright bar .58 .36 .4 1.04 .12; black both box .2 .95 .5 1.05
cyclist       | RIDER   | trousers bar -.22 1 .2 .72 .24; trousers bar .14 .78 .02 .26 .2
cyclist       | RIDER   | vest poly -.36 .96 -.2 1.46 .24 1.6 0 .94; vest bar .16 1.48 .54 1.06 .17
cyclist       | RIDER   | bright disc .3 1.79 .18; skin disc .32 1.7 .15
cyclist ahead | BICYCLE | black disc 0 .4 .15 .4; bright box -.15 .5 .15 .9; black box -.5 .9 .5 1
cyclist ahead | RIDER   | trousers both box .1 .35 .3 .9; vest both bar .27 1.42 .38 .94 .16
cyclist ahead | RIDER   | vest poly -.25 .78 -.3 1.44 0 1.58 .3 1.44 .25 .78
cyclist ahead | RIDER   | skin disc 0 1.66 .14 .18; bright disc 0 1.74 .17 .15
walker        | PERSON  | trousers both bar .06 .9 .26 0 .22
woman         | PERSON  | skin both box .03 0 .2 .6; coat poly -.4 .45 -.2 1 .2 1 .4 .45
walker, woman | PERSON  | coat both bar .27 1.42 .38 .94 .16; brown disc 0 1.7 .17 .2
walker, woman | PERSON  | coat poly -.25 .8 -.3 1.44 0 1.6 .3 1.44 .25 .8; skin disc 0 1.65 .14 .18
lamp | POLE | steel bar 0 5.9 1.4 6.3 .24; steel box 1 6.2 1.9 6.5; steel box -.18 0 .18 6
lamp, round sign, triangle sign, traffic light | POLE | steel box -.18 0 .18 2.8
lamp, round sign, triangle sign, traffic light | POLE | shine box .02 0 .1 2.8
round sign    | TRAFFIC_SIGN  | white disc 0 3.1 .7; sign disc 0 3.1 .56
triangle sign | TRAFFIC_SIGN  | sign poly -.85 2.4 0 3.8 .85 2.4; white poly -.4 2.7 0 3.3 .4 2.7
traffic light | TRAFFIC_LIGHT | white box -.45 2.3 .45 4.1; black box -.34 2.4 .34 4
traffic light | TRAFFIC_LIGHT | red disc 0 3.68 .23; amber disc 0 3.2 .23; green disc 0 2.72 .23
"""
Polygon = np.ndarray  # float (n, 3), in metres: right, up, ahead
Part = tuple[Label, str, list[Polygon]]  # label, paint; several polygons are the faces of a solid


def outline(kind: str, *numbers: float) -> Polygon:
    """What faces the camera: a `poly` (x, y of each corner), `box` (left, bottom, right, top),
    `bar` (x, y at its ends, width) or `disc` (x, y, radius, or radii along x and along y)."""
    if kind == "box":
        left, bottom, right, top = numbers
        numbers = left, bottom, left, top, right, top, right, bottom
    elif kind == "bar":
        x0, y0, x1, y1, width = numbers
        x, y = np.array([y1 - y0, x0 - x1]) * width / 2 / np.hypot(x1 - x0, y1 - y0)
        numbers = x0 + x, y0 + y, x1 + x, y1 + y, x1 - x, y1 - y, x0 - x, y0 - y
    elif kind == "disc":
        (x, y, *r), t = numbers, np.linspace(0, 2 * np.pi, 16, endpoint=False)
        numbers = tuple(np.stack([x + r[0] * np.cos(t), y + r[-1] * np.sin(t)], axis=1).ravel())
    return np.array([(x, y, 0) for x, y in zip(numbers[::2], numbers[1::2], strict=True)])


def read(table: str) -> dict[str, list[Part]]:
    """The parts of each shape of the table."""
    shapes: dict[str, list[Part]] = defaultdict(list)
    for row in table.strip().splitlines():
        names, label, *texts = (cell.strip() for cell in re.split("[|;]", row))
        for paint, *words in map(str.split, texts):
            how = words.pop(0) if words[0] == "both" or words[0][0].isdigit() else ""
            polygon = outline(words[0], *map(float, words[1:]))
            copies = [[polygon], [polygon * (-1, 1, 1)]] if how == "both" else [[polygon]]
            if how[:1].isdigit():
                left, right = (polygon[:, ::-1] + [float(how) * x, 0, 0] for x in (-0.5, 0.5))
                quads = np.stack([left, right, np.roll(right, -1, 0), np.roll(left, -1, 0)], 1)
                copies = [[left, right, *quads]]
            for name in names.split(", "):
                shapes[name] += [(Label[label], paint, copy) for copy in copies]
    return shapes


SHAPES = read(TABLE)
