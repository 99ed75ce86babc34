"""Street scenes from random numbers: what stands where."""

from collections.abc import Callable
from functools import cache

import numpy as np

from dsrl.demo.picture import NEAR, Face, Picture
from dsrl.demo.shapes import COLORS, SHAPES, Label, outline

SMALLEST = 32  # pixels; on a smaller picture nothing can be told apart
FAR = 85.0  # metres; where the street ends
ROADSIDE = 2 * ("lamp", "traffic light", "bicycle") + ("round sign", "triangle sign", "tree")


def draw_street(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a street: RGB picture, uint8 (H, W, 3), and Cityscapes label ids, uint8 (H, W).

    Raises:
        ValueError: it would be too small to show anything.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"{height}x{width} is too small for a street: give {SMALLEST} or more")
    picture = Picture(height, width, rng)
    street = Street(picture.eye, picture.sun, rng)
    things = sorted(street.things, key=lambda face: -face.distance)
    picture.paint(street.ground)
    picture.cast_shadows([face for face in things if face.label and face.distance < FAR / 3])
    picture.paint(things)
    return picture.develop()


class Street:
    """Faces to paint: `ground` in its order, then `things`, far ones first."""

    def __init__(self, eye: np.ndarray, sun: np.ndarray, rng: np.random.Generator) -> None:
        self.eye, self.sun, self.rng = eye, sun, rng
        self.ground: list[Face] = []
        self.things: list[Face] = []
        # Metres from the middle of the road, on the left and on the right.
        self.lane = 2 * eye[0] + rng.uniform(-0.3, 0.3)
        self.kerb = self.lane + 2.1 * (rng.random(2) < 0.4)  # cars park in between
        self.pavement = self.kerb + rng.uniform(2.8, 4.2, 2)
        self.facade = self.pavement + rng.uniform(1.5, 3.5, 2) * (rng.random(2) < 0.5)
        self.crossing = rng.uniform(8, 12) if rng.random() < 0.5 else 0.0
        self.lay_ground()
        for side in (0, 1):
            self.build(side)
            self.furnish(side)
        self.drive()
        self.tree(0, FAR, 6)

    def color(self, paint: str) -> np.ndarray:
        """One of the colours of a paint, a little lighter or darker."""
        color = bytes.fromhex(COLORS[paint][self.rng.integers(len(COLORS[paint]))])
        return np.array(list(color)) * self.rng.uniform(0.9, 1.1)

    def place(self, name: str, x: float, z: float, size: float = 1.0) -> None:
        """Put a shape of the table there, mirrored or not; lamps lean over the road."""
        mirror = -np.sign(x) if name == "lamp" else self.rng.choice((-1, 1))
        self.add(name, (x, 0, z), (mirror * size, size, size), cache(self.color), z)

    def add(self, name: str, at: tuple, scale: tuple, color: Callable, distance: float) -> None:
        """Put a shape there; the sides of a solid that others hide come first."""
        for label, paint, polygons in SHAPES[name]:
            axes = -1 if label in (Label.BUILDING, Label.NONE) else 1  # houses face the street
            placed = [polygon[:, ::axes] * scale + at for polygon in polygons]
            if len(placed) > 1:
                placed.sort(key=lambda side: -((side.sum(0) / len(side) - self.eye) ** 2).sum())
            self.things += [Face(polygon, color(paint), label, distance) for polygon in placed]

    def lay_ground(self) -> None:
        """Lay grass, pavement, kerb and road, in strips that fade with the distance; then marks."""
        asphalt, paving, lawn, white = map(self.color, ("asphalt", "paving", "lawn", "white"))
        (left, right), (start, end) = self.kerb * (-1, 1), self.pavement * (-1, 1)

        def lay(color: np.ndarray, label: Label, *bounds: float) -> None:
            corners = outline("box", *bounds)[:, [0, 2, 1]]
            self.ground.append(Face(corners, color, label, 0))

        edges = np.geomspace(3 * FAR, NEAR, 32)
        for far, near, shade in zip(edges[:-1], edges[1:], 16 * (1, 0.95), strict=False):
            lay(lawn, Label.TERRAIN, -90, near, 90, far)
            lay(paving * shade, Label.SIDEWALK, start, near, end, far)
            lay(paving * 1.2, Label.SIDEWALK, left - 0.25, near, right + 0.25, far)
            lay(asphalt * 0.8, Label.ROAD, left, near, right, far)
            lay(asphalt, Label.ROAD, left + 0.3, near, right - 0.3, far)
        for z in np.arange(self.rng.uniform(1, 5), FAR, 6):
            lay(white, Label.NONE, -0.08, z, 0.08, z + 3)
        for x in (0.3 - self.lane, self.lane - 0.3):
            lay(white, Label.NONE, x - 0.07, NEAR, x + 0.07, FAR)
        for x in np.arange(left + 0.5, right - 0.5, 1.1) if self.crossing else ():
            lay(white, Label.NONE, x, self.crossing, x + 0.55, self.crossing + 3)

    def build(self, side: int) -> None:
        """A row of houses, with trees in the gaps and bushes in the gardens."""
        rng, sign, facade, z = self.rng, 2 * side - 1, self.facade[side], self.rng.uniform(-3, 3)
        while z < FAR - 15:
            length = rng.uniform(7, 13)
            if rng.random() < 0.85:
                self.house(sign, facade, z, length)
            else:
                self.tree(sign * (facade + 3), z + length, rng.uniform(1.2, 2))
            z += length
        for z in rng.uniform(5, 40, 9) if facade > self.pavement[side] else ():
            x = rng.uniform(self.pavement[side] + 0.6, facade)
            self.tree(sign * x, z, rng.uniform(0.5, 0.9), trunk=0)

    def house(self, sign: int, facade: float, z: float, length: float) -> None:
        """A house with windows or a shop on the ground floor."""
        rng, color, shop, floor = self.rng, cache(self.color), self.rng.random() < 0.5, 3.2
        columns, top = int(length / rng.uniform(2.2, 2.9)), 0.6 + floor * rng.integers(2, 5)
        pieces = [("walls", 0, length / 2, top, length), ("roof", top, length / 2, 1, length)]
        for ahead in (np.arange(columns) + 0.5) * length / columns:
            lows = np.arange(1.4 + shop * floor, top - 1, floor)
            pieces += [("window", low, ahead, 1, 1) for low in lows]
        pieces += [("shop", 0, length / 2, 1, length)] * shop
        for name, up, ahead, *scale in pieces:
            self.add(name, (sign * facade, up, z + ahead), (sign, *scale), color, z + length)

    def tree(self, x: float, z: float, size: float, trunk: float = 2.2) -> None:
        """A trunk and a crown of blobs, brighter towards the sun; or a bush, without a `trunk`."""
        rng, leaves, at = self.rng, self.color("leaves"), np.array([x, trunk + 0.9 * size, z])
        if trunk:
            stem = outline("box", x - 0.16, 0, x + 0.16, at[1]) + np.array([0, 0, z])
            self.things.append(Face(stem, self.color("brown"), Label.VEGETATION, z))
        places = rng.normal(0, 0.45, (int(np.clip(400 / z, 8, 40)), 1, 3)).clip(-0.9, 0.9)
        places = places[np.argsort(places[:, 0] @ self.sun)]
        radii = rng.uniform(0.25, 0.5, (len(places), 1, 1)) * rng.uniform(0.8, 1.2, (16, 1))
        blobs = at + size * (places * (1, 1, 0) + radii * outline("disc", 0, 0, 1))
        tones = 0.9 + 0.35 * places @ self.sun + rng.uniform(-0.1, 0.1, (len(places), 1))
        for blob, color in zip(blobs, leaves * tones, strict=True):
            self.things.append(Face(blob, color, Label.VEGETATION, z))

    def furnish(self, side: int) -> None:
        """What stands at the kerb, parked cars, people on the pavement."""
        rng, sign, kerb = self.rng, 2 * side - 1, self.kerb[side] + 0.6
        z = rng.uniform(6.5, 8.5)
        while z < 26:
            name = str(rng.choice(ROADSIDE))
            if name == "tree":
                self.tree(sign * kerb, z, rng.uniform(1.1, 1.7))
            else:
                self.place(name, sign * (kerb + (name == "bicycle")), z, rng.uniform(1, 1.2))
            z += rng.uniform(1.8, 3.5)
        if self.kerb[side] > self.lane:
            for z in np.arange(rng.uniform(7, 11), 50, rng.uniform(5.5, 8)):
                self.place(("oncoming car", "car")[side], sign * (self.lane + 1), z)
        for z in 6.5 * np.exp(rng.uniform(0, 1.2, rng.integers(3, 7))):
            x = sign * rng.uniform(kerb + 0.6, self.pavement[side] - 0.3)
            self.place(str(rng.choice(("walker", "woman"))), x, z, rng.uniform(0.9, 1.2))

    def drive(self) -> None:
        """Traffic on the road, and who crosses it."""
        rng, lane, start = self.rng, self.lane / 2, self.crossing or 8
        self.place(str(rng.choice(("bus", "oncoming car"))), -lane, rng.uniform(11, 22))
        self.place("oncoming car", -lane, rng.uniform(34, 60))
        self.place("car", lane, rng.uniform(15, 40))
        for name, z in (("cyclist ahead", rng.uniform(-1, 6)), ("cyclist", rng.uniform(0, 2))):
            if rng.random() < 0.8:
                self.place(name, rng.uniform(0.3, 1.8) * lane, start + z, 1.2)
        walkers = rng.integers(1, 4) if self.crossing else 0
        for x, z in rng.uniform((-1, 0), (1, 2.5), (walkers, 2)):
            self.place("walker", x * self.lane, start + z, rng.uniform(0.9, 1.15))
