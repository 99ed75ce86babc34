"""Light, sky and sensor of a drawn street: what makes the drawing a photograph."""

from dataclasses import replace

import numpy as np
from PIL import Image

from dsrl.demo.street_canvas import SUPERSAMPLING, WHITE, Camera, Canvas, Label, Light

# Strength of the fine and of the patchy texture of a surface, in grey levels.
TEXTURE = {
    Label.ROAD: (2.5, 2.5),
    Label.SIDEWALK: (3.0, 3.0),
    Label.BUILDING: (3.0, 6.0),
    Label.WALL: (6.0, 10.0),
    Label.VEGETATION: (11.0, 10.0),
    Label.TERRAIN: (9.0, 9.0),
    Label.SKY: (0.0, 0.0),
}


def daylight(rng: np.random.Generator) -> Light:
    """Choose the weather and the time of day."""
    sun = rng.choice((-1, 1))
    clear = Light(
        sky_top=(78, 132, 196),
        sky_bottom=(196, 216, 232),
        clouds=0.25,
        cloud=WHITE,
        haze=0.002,
        sun_side=int(sun),
        contrast=0.66,
        exposure=1.22,
        dusk=False,
    )
    fair = replace(clear, sky_top=(112, 148, 190), clouds=0.65, haze=0.004, contrast=0.75)
    overcast = replace(
        clear,
        sky_top=(168, 174, 180),
        sky_bottom=(208, 210, 210),
        clouds=1.0,
        cloud=(190, 194, 198),
        haze=0.007,
        contrast=0.9,
        exposure=1.1,
    )
    morning = replace(
        clear,
        sky_top=(120, 146, 190),
        sky_bottom=(250, 220, 180),
        clouds=0.4,
        cloud=(255, 226, 196),
        haze=0.008,
        contrast=0.62,
        exposure=1.15,
    )
    dusk = replace(
        clear,
        sky_top=(52, 64, 112),
        sky_bottom=(226, 150, 120),
        clouds=0.5,
        cloud=(150, 108, 128),
        haze=0.005,
        contrast=0.8,
        exposure=0.86,
        dusk=True,
    )
    kinds = (clear, fair, overcast, morning, dusk)
    return kinds[rng.choice(len(kinds), p=(0.34, 0.26, 0.16, 0.12, 0.12))]


def _patches(
    rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int]
) -> np.ndarray:
    """Smooth noise about 0, float32 (rows, columns), of so many cells down and across."""
    grid = rng.standard_normal((max(2, cells[0]), max(2, cells[1])), dtype=np.float32)
    smooth = Image.fromarray(grid).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def paint_sky(
    rng: np.random.Generator, camera: Camera, light: Light, height: int, width: int
) -> Image.Image:
    """Paint the gradient of the sky, a glow on the sun's side, and flat clouds."""
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    # A sky is smooth: a half of the size will do.
    height, width = height // 2, width // 2
    horizon = camera.horizon / SUPERSAMPLING / 2
    fall = np.clip(np.arange(height, dtype=np.float32) / horizon, 0, 1)[:, None, None] ** 1.3
    sky = (
        np.array(light.sky_top, dtype=np.float32) * (1 - fall)
        + np.array(light.sky_bottom, dtype=np.float32) * fall
    )
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    glow = (ramp if light.sun_side > 0 else 1 - ramp) ** 3 * fall
    sky = sky + (255 - sky) * 0.35 * glow
    # Stretched sideways, as clouds are that one sees from below.
    noise = np.zeros((height, width), dtype=np.float32)
    for octave in range(4):
        cells = (12 * 2**octave, 7 * 2**octave)
        noise += _patches(rng, height, width, cells) * np.float32(0.6**octave)
    cover = np.clip((noise - 0.9 + 1.3 * light.clouds) * 1.1, 0, 1)[..., None] * 0.9
    shaded = np.array(light.cloud, dtype=np.float32) * (1 - 0.14 * np.clip(noise, 0, 1)[..., None])
    sky = sky * (1 - cover) + shaded * cover
    return Image.fromarray(sky.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def develop(rng: np.random.Generator, canvas: Canvas, label: np.ndarray) -> np.ndarray:
    """Turn the drawing into a photograph: textures, exposure, colour cast, vignette, noise.

    Takes the label ids, uint8 (H, W); returns the picture, uint8 (H, W, 3).
    """
    height, width = label.shape
    picture = np.asarray(canvas.image.reduce(SUPERSAMPLING)).astype(np.float32)
    strengths = np.full((2, 256), 2.0, dtype=np.float32)
    for name, strength in TEXTURE.items():
        strengths[:, name] = strength
    fine = rng.standard_normal((height, width), dtype=np.float32)
    texture = strengths[0][label] * fine
    texture += strengths[1][label] * _patches(rng, height, width, (height // 3, width // 3))
    texture += _stains(rng, canvas.camera, label)
    picture += texture[..., None]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    picture *= 1 - 0.12 * (rows**2 + columns**2) / 2
    cast = rng.normal(1, 0.035, 3) * rng.uniform(0.88, 1.12) * canvas.light.exposure
    picture *= cast.astype(np.float32)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture += noise * np.float32(rng.uniform(1.0, 4.5))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _stains(rng: np.random.Generator, camera: Camera, label: np.ndarray) -> np.ndarray:
    """Wear and dirt that lie on the ground, in perspective: grey levels, float32 (H, W)."""
    height, width = label.shape
    tile = 7 * _patches(rng, 256, 256, (24, 24)) + 6 * _patches(rng, 256, 256, (80, 80))
    rows = np.arange(height, dtype=np.float32)[:, None] * SUPERSAMPLING - camera.horizon
    columns = np.arange(width, dtype=np.float32)[None, :] * SUPERSAMPLING - camera.centre
    ahead = camera.focal * camera.height / np.maximum(rows, 1)
    right = columns * ahead / camera.focal
    # 10 cm a cell across and 30 cm along: wheels draw the dirt out lengthwise.
    stains = tile[(ahead / 0.3).astype(np.intp) % 256, (right / 0.1).astype(np.intp) % 256]
    on_ground = np.isin(label, (Label.ROAD, Label.SIDEWALK, Label.TERRAIN)) & (rows > 0)
    return on_ground * stains / (1 + ahead / 15)
