"""A picture is the same in all depths and layouts, or refused with the cure; never a black one."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import FLOAT, RGB, SIGNED, WHITE_IS_ZERO, png, pnm, tiff
from PIL import Image

from dsrl.data.images import ImageReader

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (5, 8), dtype=np.uint8)
GREY[0, :2] = 0, 255
COLOURS = rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)
COLOURS[0, 0] = 255
LOW = rng.integers(0, 16, (5, 8))  # bits that 8 bits have no room for


def deep(picture: np.ndarray, bits: int) -> np.ndarray:
    """A picture with more bits, of which the lower ones are noise."""
    noise = LOW.reshape(LOW.shape + (1,) * (picture.ndim - 2)) * 17 % 2 ** (bits - 8)
    return picture.astype(np.uint16) << (bits - 8) | noise.astype(np.uint16)


def compressed(values: np.ndarray, compression: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression)
    return file.getvalue()


def jpeg2000(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG2000")
    return file.getvalue()


def jpeg2000_of_12_bits(values: np.ndarray) -> bytes:
    """What Pillow wrote with 16 bits, said to have 12; the middle value is stored as 0 in both."""
    content = bytearray(jpeg2000(values + np.uint16(2**15 - 2**11)))
    content[content.index(b"ihdr") + 14] = 11
    content[content.index(b"\xff\x4f\xff\x51") + 42] = 11
    return bytes(content)


def with_alpha(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.full((*values.shape[:2], 1), 65535)], -1)


def white_is_zero(values: np.ndarray, bits: int) -> np.ndarray:
    return 2**bits - 1 - values.astype(int)


GREY_FILES = {
    "PNG 16": png(deep(GREY, 16), 16),
    "PNG that says 12 bits": png(deep(GREY, 12), 16, significant=12),
    "PNG of 12 bits, stretched as its specification says": png(deep(GREY, 16), 16, significant=12),
    "PNG 16 with alpha": png(np.stack([deep(GREY, 16), np.full_like(GREY, 255)], -1), 16),
    "TIFF 16": tiff(deep(GREY, 16), 16),
    "TIFF 16 big-endian": tiff(deep(GREY, 16), 16, order=">"),
    "TIFF 16 LZW": compressed(deep(GREY, 16), "tiff_lzw"),
    "TIFF 16 big-endian LZW": compressed(deep(GREY, 16).astype(">u2"), "tiff_lzw"),
    "TIFF 12": tiff(deep(GREY, 12), 12),
    "TIFF white is zero 8": tiff(white_is_zero(GREY, 8), 8, WHITE_IS_ZERO),
    "TIFF white is zero 16": tiff(white_is_zero(deep(GREY, 16), 16), 16, WHITE_IS_ZERO),
    "TIFF white is zero, planes apart": tiff(
        white_is_zero(GREY, 8), 8, WHITE_IS_ZERO, planes_apart=True
    ),
    "TIFF int32 that says 0 to 255": tiff(GREY, 32, kind=SIGNED, fields={281: (3, 255)}),
    "TIFF float that says 0 to 1": tiff(
        GREY / 255, 32, kind=FLOAT, fields={340: (11, 0), 341: (11, 1)}
    ),
    "TIFF 16 that says 0 to 4095": tiff(deep(GREY, 12), 16, fields={280: (3, 0), 281: (3, 4095)}),
    "TIFF 16 that says less than is there": tiff(deep(GREY, 16), 16, fields={281: (3, 4095)}),
    "PGM 12": pnm(deep(GREY, 12), 4095),
    "PGM 12 as text": pnm(deep(GREY, 12), 4095, text=True),
    "PGM 16": pnm(deep(GREY, 16), 65535),
    "JPEG 2000 16": jpeg2000(deep(GREY, 16)),
    "JPEG 2000 12": jpeg2000_of_12_bits(deep(GREY, 12)),
}
COLOUR_FILES = {
    "PNG 16": png(deep(COLOURS, 16), 16),
    "PNG 16 with alpha": png(with_alpha(deep(COLOURS, 16)), 16),
    "PNG that says 12 bits": png(deep(COLOURS, 12), 16, significant=12),
    "TIFF 16": tiff(deep(COLOURS, 16), 16, RGB),
    "TIFF 16 that says 0 to 4095": tiff(deep(COLOURS, 12), 16, RGB, fields={281: (3, 4095)}),
    "PPM 12": pnm(deep(COLOURS, 12), 4095),
    "PPM 12 as text": pnm(COLOURS.astype(int) * 4095 // 255, 4095, text=True),
    "PPM 16": pnm(deep(COLOURS, 16), 65535),
    "JPEG 2000 8": jpeg2000(COLOURS),
}
# Files that do not say which values are black and white, and these.
UNCERTAIN = {
    "PNG 12 in 16": (png(deep(GREY, 12), 16), (0, 4095)),
    "PNG 14 in 16": (png(deep(GREY, 14), 16), (0, 16383)),
    "TIFF 12 in 16": (tiff(deep(GREY, 12), 16), (0, 4095)),
    "TIFF 12 in 16, said to be 16": (tiff(deep(GREY, 12), 16, fields={281: (3, 65535)}), (0, 4095)),
    "TIFF 12 in 16 LZW": (compressed(deep(GREY, 12), "tiff_lzw"), (0, 4095)),
    "TIFF white is zero 12 in 16": (
        tiff(white_is_zero(deep(GREY, 12), 12), 16, WHITE_IS_ZERO),
        (0, 4095),
    ),
    "PGM 12 in 16": (pnm(deep(GREY, 12), 65535), (0, 4095)),
    "JPEG 2000 12 in 16": (jpeg2000(deep(GREY, 12)), (0, 4095)),
    "TIFF int16": (tiff(deep(GREY, 12), 16, kind=SIGNED), (0, 4095)),
    "TIFF int32": (tiff(GREY, 32, kind=SIGNED), (0, 255)),
    "TIFF uint32": (tiff(GREY * np.uint32(0x1010101), 32), (0, 2**32 - 1)),
    "TIFF float of 0 to 1": (tiff(GREY / 255, 32, kind=FLOAT), (0, 1)),
    "TIFF float of 0 to 255": (tiff(GREY, 32, kind=FLOAT), (0, 255)),
    "TIFF float, white is zero": (tiff(1 - GREY / 255, 32, WHITE_IS_ZERO, FLOAT), (0, 1)),
    "PFM": (b"Pf\n8 5\n-1.0\n" + (GREY[::-1] / 255).astype("<f4").tobytes(), (0, 1)),
    "colour PNG 12 in 16": (png(deep(COLOURS, 12), 16), (0, 4095)),
    "colour PNG 12 in 16 with alpha": (png(with_alpha(deep(COLOURS, 12)), 16), (0, 4095)),
    "colour TIFF 12 in 16": (tiff(deep(COLOURS, 12), 16, RGB), (0, 4095)),
    "colour TIFF 12 in 16 big-endian": (tiff(deep(COLOURS, 12), 16, RGB, order=">"), (0, 4095)),
    "PPM 12 in 16": (pnm(deep(COLOURS, 12), 65535), (0, 4095)),
}


def read(tmp_path: Path, content: bytes, value_range=None) -> np.ndarray:
    path = tmp_path / "a"
    path.write_bytes(content)
    return np.asarray(ImageReader(value_range).read(path).pixels)


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_is_read_as_the_file_says(tmp_path, name):
    assert np.array_equal(read(tmp_path, GREY_FILES[name]), np.stack([GREY] * 3, -1))


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_colours_are_read_as_the_file_says(tmp_path, name):
    tolerance = 1 if name in ("PPM 12 as text", "JPEG 2000 8") else 0
    found = read(tmp_path, COLOUR_FILES[name])
    assert np.abs(found.astype(int) - COLOURS).max() <= tolerance


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_no_file_says_is_refused_with_the_cure_which_works(tmp_path, name):
    content, (black, white) = UNCERTAIN[name]
    with pytest.raises(ValueError, match=r"which are black and white is not certain") as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert str(tmp_path / "a") in text and "\n" not in text
    assert f"--value-range {black:g} {white:g} " in text
    assert f"`value_range: [{black:g}, {white:g}]`" in text
    expected = COLOURS if name.startswith(("colour", "PPM")) else np.stack([GREY] * 3, -1)
    assert np.array_equal(read(tmp_path, content, (black, white)), expected)


def test_what_is_outside_of_the_range_is_cut_off_and_reported(tmp_path, capsys):
    values = np.array([[-9999, 0, 0.5, 1], [np.nan, np.inf, -np.inf, 7]])
    (tmp_path / "a").write_bytes(tiff(values, 32, kind=FLOAT))
    reader = ImageReader((0, 1))
    found = np.asarray(reader.read(tmp_path / "a").pixels)[..., 0]
    assert found.tolist() == [[0, 0, 128, 255], [0, 255, 0, 255]]
    reader.print_notes()
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'a'}: values below 0 are taken as black, those above 1 as white\n"
    )


def test_a_picture_that_the_given_range_makes_dark_is_reported(tmp_path, capsys):
    (tmp_path / "a").write_bytes(png(deep(GREY, 12), 16))
    reader = ImageReader((0, 65535))
    reader.read(tmp_path / "a")
    reader.print_notes()
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'a'}: dark, as 0 is taken as black and 65535 as white\n"
    )


def test_8_bits_need_no_range_and_take_none(tmp_path):
    for content in (png(GREY, 8), tiff(GREY, 8), pnm(GREY, 255)):
        assert np.array_equal(read(tmp_path, content, (0, 4095))[..., 0], GREY)


def test_a_range_is_of_the_values_in_the_file(tmp_path):
    """Some of which Pillow would stretch to 16 bits."""
    values = deep(GREY, 12)
    for content in (pnm(values, 4095), pnm(values, 4095, text=True), jpeg2000_of_12_bits(values)):
        assert np.array_equal(read(tmp_path, content, (0, 4095))[..., 0], GREY)
    assert np.array_equal(read(tmp_path, pnm(deep(COLOURS, 12), 4095), (0, 4095)), COLOURS)


def test_a_range_that_the_file_says_is_reported(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(png(deep(GREY, 12), 16, significant=12))
    reader = ImageReader()
    for name in ("b", "a"):
        reader.read(tmp_path / name)
    reader.print_notes()
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'a'} and 1 more: 0 is taken as black and 4095 as white, "
        "as the file says\n"
    )


def test_black_is_black_in_all_depths(tmp_path, recwarn):
    black = np.zeros((5, 8), np.uint16)
    says_nothing = tiff(black, 16, fields={281: (3, 0)})
    for content in (png(black, 16), tiff(black, 16), says_nothing, pnm(black, 4095)):
        assert not read(tmp_path, content).any() and not recwarn.list


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(deep(COLOURS, 16), 16, RGB, planes_apart=True), "interleaved channels"),
        (tiff(GREY >> 4, 4, planes_apart=True), "interleaved channels"),
        (png(np.stack([deep(GREY, 12)] * 2, -1), 16), "which are black and white is not certain"),
    ],
    ids=["colours apart", "4 bits apart", "grey and alpha of 12 bits"],
)
def test_what_pillow_misreads_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"{tmp_path / 'a'}: .*{message}"):
        read(tmp_path, content)


def test_of_what_has_only_upper_bytes_no_other_range_can_be_taken(tmp_path):
    content = png(np.stack([deep(GREY, 12)] * 2, -1), 16)
    with pytest.raises(ValueError, match="save it with 8 bits per channel"):
        read(tmp_path, content, (0, 4095))


def test_colours_of_16_bits_are_turned_upright_with_both_bytes(tmp_path):
    turned, exif = np.rot90(deep(COLOURS, 12)), Image.Exif()
    exif[274] = 6  # turns it back
    for content in (tiff(turned, 16, RGB, fields={274: (3, 6)}), png(turned, 16, exif=exif)):
        assert np.array_equal(read(tmp_path, content, (0, 4095)), COLOURS)
