"""Label ids arrive as they were stored, whatever the format, or the file is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import SIGNED, WHITE_IS_ZERO, png, pnm, tiff
from PIL import Image

from dsrl.data.description import DatasetDescription
from dsrl.data.images import ImageReader
from dsrl.data.labels import read_label

IDS = np.random.default_rng(0).integers(0, 12, (6, 16), dtype=np.uint8)
IDS[0, :12] = range(12)
# Of CamVid: one is black, and some are in the palettes that other programs use.
COLORS = [
    *([128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222]),
    *([128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0]),
    *([0, 128, 192], [0, 0, 0]),
]


def describe(colors=COLORS, ids=range(12)) -> DatasetDescription:
    split = {"image": "{frame}.jpg", "label": "{frame}.png"}
    labels = [
        {"id": value, "name": str(value), "color": color}
        for value, color in zip(ids, colors, strict=True)
    ]
    return DatasetDescription.model_validate(
        {"name": "own", "archives": ["a.zip"], "splits": {"train": split, "val": split}}
        | {"labels": labels}
    )


def saved(image: Image.Image | np.ndarray, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, file_format, **options)
    return file.getvalue()


def read(tmp_path: Path, content: bytes, description: DatasetDescription | None = None):
    (tmp_path / "a").write_bytes(content)
    reader = ImageReader()
    label = read_label(tmp_path / "a", description or describe(), reader)
    return np.asarray(label.pixels), reader


def indexed(indices: np.ndarray, colors) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette([value for color in colors for value in color])
    return image


def low(bits: int) -> np.ndarray:
    """The ids that so many bits have room for."""
    return IDS & min(2**bits - 1, 255)


BITS = low(1)
FILES = {
    **{f"TIFF {bits}": (tiff(low(bits), bits), bits) for bits in (1, 2, 4, 8, 12, 16, 32)},
    **{
        f"TIFF white is zero {bits}": (tiff(low(bits), bits, WHITE_IS_ZERO), bits)
        for bits in (1, 2, 4, 8, 16)
    },
    **{f"PNG {bits}": (png(low(bits), bits), bits) for bits in (1, 2, 4, 8, 16)},
    "TIFF int32": (tiff(IDS, 32, kind=SIGNED), 8),
    "TIFF 16 big-endian": (tiff(IDS, 16, order=">"), 8),
    "TIFF white is zero, planes apart": (tiff(IDS, 8, WHITE_IS_ZERO, planes_apart=True), 8),
    **{
        f"TIFF {compression}": (saved(IDS, "TIFF", compression=compression), 8)
        for compression in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd")
    },
    "TIFF group 4": (saved(Image.fromarray(BITS > 0), "TIFF", compression="group4"), 1),
    "TIFF palette": (saved(indexed(IDS, COLORS), "TIFF"), 8),
    "PGM 11": (pnm(IDS, 11), 8),
    "PGM 11 as text": (pnm(IDS, 11, text=True), 8),
    "PGM 255": (pnm(IDS, 255), 8),
    "PGM 300": (pnm(IDS, 300), 8),
    "PGM 65535": (pnm(IDS, 65535), 8),
    "PBM as text": (b"P1 16 6\n" + " ".join(map(str, BITS.ravel())).encode(), 1),
    "PBM": (b"P4 16 6\n" + np.packbits(BITS, axis=1).tobytes(), 1),
    **{name: (saved(IDS, name), 8) for name in ("BMP", "GIF", "PCX", "TGA")},
    **{
        f"{name} palette": (saved(indexed(IDS, COLORS), name), 8)
        for name in ("BMP", "GIF", "PCX", "PNG")
    },
    "BMP of two values": (saved(Image.fromarray(BITS > 0), "BMP"), 1),
}


@pytest.mark.parametrize("name", FILES)
def test_ids_are_those_in_the_file(tmp_path, name):
    content, bits = FILES[name]
    found, _ = read(tmp_path, content)
    assert np.array_equal(found, low(bits))


def test_ids_of_16_bits_in_formats_that_pillow_stretches(tmp_path):
    ids = IDS.astype(np.uint16) * 1000
    description = describe(ids=range(0, 12000, 1000))
    for content in (pnm(ids, 11000), pnm(ids, 11000, text=True), tiff(ids, 16, WHITE_IS_ZERO)):
        found, _ = read(tmp_path, content, description)
        assert np.array_equal(found, IDS)


LOSSY = {
    "JPEG": saved(IDS, "JPEG", quality=100),
    "WEBP": saved(Image.fromarray(IDS).convert("RGB"), "WEBP", lossless=True),
    "JPEG2000": saved(IDS, "JPEG2000", irreversible=True),
    "AVIF": saved(Image.fromarray(IDS).convert("RGB"), "AVIF"),
    "TIFF with the compression jpeg": saved(IDS, "TIFF", compression="jpeg"),
    "TIFF with the compression webp": tiff(IDS, 8, fields={259: (3, 50001)}),
}


@pytest.mark.parametrize("name", LOSSY)
def test_formats_that_may_be_lossy_are_refused_with_the_reason(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{tmp_path / 'a'}: .*; {name} may be lossy, which"):
        read(tmp_path, LOSSY[name])


def test_a_bitmap_that_pillow_misreads_is_refused(tmp_path):
    image = indexed(BITS, [[1, 1, 1], [255, 255, 255]])
    content = bytearray(saved(image, "BMP"))
    content[46:50] = b"\2\0\0\0"  # two colours,
    content[54:58] = b"\0\0\0\0"  # black first, at 8 bits a pixel
    offset = int.from_bytes(content[10:14], "little")
    del content[62:offset]
    content[10:14] = b"\x3e\0\0\0"
    with pytest.raises(ValueError, match=r"a BMP of 8 bits .* would be misread; save it as PNG"):
        read(tmp_path, bytes(content))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colors_are_those_of_the_labels(tmp_path, mode):
    image = Image.fromarray(np.array(COLORS, np.uint8)[IDS]).convert(mode)
    found, _ = read(tmp_path, saved(image, "PNG"))
    assert np.array_equal(found, IDS)
    description = describe(ids=range(12, 0, -1))  # ids do not count, but their order does
    assert np.array_equal(read(tmp_path, saved(image, "PNG"), description)[0], IDS)


def test_colors_that_are_not_clear_are_refused_with_their_share(tmp_path):
    pixels = np.array(COLORS, np.uint8)[IDS]
    pixels[0, 0], pixels[1, :2] = [1, 2, 3], [3, 2, 1]
    unknown = r"a: the color \[3, 2, 1\] \(2.1 % of the pixels, and 1 others\) is that of no label"
    with pytest.raises(ValueError, match=unknown):
        read(tmp_path, saved(pixels, "PNG"))
    twice = describe(colors=[COLORS[0], COLORS[0], *COLORS[2:]])
    with pytest.raises(ValueError, match=r"\[128, 128, 128\] .* is that of several labels"):
        read(tmp_path, saved(np.array(COLORS, np.uint8)[IDS * 0], "PNG"), twice)
    clear = np.dstack([np.array(COLORS, np.uint8)[IDS], np.where(IDS == 3, 0, 255)])
    with pytest.raises(ValueError, match=r"a: \d+(\.\d+)? % of the pixels are transparent"):
        read(tmp_path, saved(clear.astype(np.uint8), "PNG"))
    with pytest.raises(ValueError, match="got mode CMYK: write the ids"):
        read(tmp_path, saved(Image.new("CMYK", (3, 3)), "TIFF"))


def voc_palette() -> list[list[int]]:
    """The one of Pascal VOC, which many programs give any label image."""
    return [
        [sum((index >> 3 * k + c & 1) << (7 - k) for k in range(3)) for c in range(3)]
        for index in range(256)
    ]


ORDER = np.random.default_rng(1).permutation(12)  # of the colours in a palette
ACCEPTED = {
    "the colors": (COLORS, False),
    "the colors and then black": ([*COLORS, *[[0, 0, 0]] * 244], False),
    "greys of the ids": ([[i, i, i] for i in range(256)], False),
    "Pascal VOC": (voc_palette(), True),
    "bright greys": ([[20 * i] * 3 for i in range(12)], True),
    "anything": (np.random.default_rng(2).integers(0, 256, (256, 3)).tolist(), True),
}
REFUSED = {
    "the colors in another order": [COLORS[i] for i in ORDER],
    "in another order, and then black": [*(COLORS[i] for i in ORDER), *[[0, 0, 0]] * 244],
    "two exchanged": [COLORS[0], COLORS[2], COLORS[1], *COLORS[3:]],
    "without the first": [*COLORS[1:], COLORS[0]],
    "greys of the ids in another order": [[int(i)] * 3 for i in ORDER],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_indices_are_ids_unless_the_palette_says_otherwise(tmp_path, capsys, name):
    palette, noted = ACCEPTED[name]
    for ids in (IDS, np.full_like(IDS, 3), IDS % 4):
        found, reader = read(tmp_path, saved(indexed(ids, palette), "PNG"))
        assert np.array_equal(found, ids)
        reader.print_notes()
        note = f"note: {tmp_path / 'a'}: the palette has other colors than the description; "
        assert capsys.readouterr().err == f"{note}its indices are taken as ids\n" * noted


@pytest.mark.parametrize("name", REFUSED)
def test_a_palette_of_the_colors_at_other_ids_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"a: its palette shows the index \d+ as \[\d+, ") as error:
        read(tmp_path, saved(indexed(IDS, REFUSED[name]), "PNG"))
    assert "\n" not in str(error.value)


def test_a_palette_of_few_colors_is_refused_too(tmp_path):
    """As programs make it that look for the colours in an image."""
    colours = np.array(COLORS, np.uint8)[np.where(IDS % 2, 8, 3)]
    image = Image.fromarray(colours).quantize(2)
    with pytest.raises(ValueError, match=r"the color of the label [38], so that its indices are"):
        read(tmp_path, saved(image, "PNG"))


def test_colors_that_are_not_used_do_not_excuse_those_that_are(tmp_path):
    """Two labels exchanged, and two colors that no label has at indices that do not occur."""
    palette = [COLORS[1], COLORS[0], [1, 2, 3], [3, 2, 1]]
    with pytest.raises(ValueError, match="its indices are not the label ids"):
        read(tmp_path, saved(indexed(IDS % 2, palette), "PNG"))


def test_black_that_fills_a_palette_says_nothing(tmp_path):
    fill = [[0, 0, 0]] * 250
    found, _ = read(tmp_path, saved(indexed(IDS % 6, [*COLORS[:6], *fill]), "PNG"))
    assert np.array_equal(found, IDS % 6)
    shifted = describe(ids=range(1, 13), colors=[*COLORS[:-1], [1, 1, 1]])  # black is no color
    with pytest.raises(ValueError, match="its indices are not the label ids"):
        read(tmp_path, saved(indexed(IDS % 3 + 1, [*COLORS[:4], *fill]), "PNG"), shifted)


def test_a_label_of_several_pages_is_reported(tmp_path, capsys):
    pages = [Image.fromarray(IDS), Image.fromarray(IDS[::-1])]
    found, reader = read(tmp_path, saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert np.array_equal(found, IDS)
    reader.print_notes()
    assert "a: of several pages or frames, the first is taken" in capsys.readouterr().err


def test_black_and_white_exchanged_are_refused(tmp_path):
    two = describe([[0, 0, 0], [255, 255, 255]], [0, 1])
    right, wrong = indexed(BITS, [[0] * 3, [255] * 3]), indexed(BITS, [[255] * 3, [0] * 3])
    assert np.array_equal(read(tmp_path, saved(right, "PNG"), two)[0], BITS)
    with pytest.raises(ValueError, match="its indices are not the label ids"):
        read(tmp_path, saved(wrong, "PNG"), two)
