"""Images in all modes become 8-bit RGB, and what a user should know is said in few lines."""

import numpy as np
import pytest
from image_files import tiff
from PIL import Image

from dsrl.data.images import ImageReader, open_image

RED = np.full((4, 6, 3), [200, 30, 10], np.uint8)
RED[0] = 90


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB"])
def test_modes_are_one_picture(tmp_path, recwarn, mode):
    image = Image.fromarray(RED)
    if mode == "P":
        image = image.quantize(4)
        image.save(tmp_path / "a", "PNG", transparency=b"\0\x80\xff")
    else:
        image.convert(mode).save(tmp_path / "a", "PNG" if "RGB" in mode else "TIFF")
    with Image.open(tmp_path / "a") as opened:
        assert opened.mode == mode
    found = np.asarray(ImageReader().read(tmp_path / "a").pixels)
    assert np.abs(found.astype(int) - RED).max() <= (4 if mode in ("YCbCr", "LAB") else 0)
    assert not recwarn.list


def test_premultiplied_alpha_is_dropped(tmp_path):
    grey, alpha = RED[..., 0], np.full_like(RED[..., 0], 255)
    (tmp_path / "a").write_bytes(tiff(np.stack([grey, alpha], -1), 8, fields={338: (3, 1)}))
    assert np.array_equal(np.asarray(ImageReader().read(tmp_path / "a").pixels)[..., 2], grey)


def test_of_several_pages_the_first_is_read_and_the_log_says_so(tmp_path, capsys):
    pages = [Image.fromarray(RED), Image.fromarray(RED[::-1])]
    reader = ImageReader()
    for file_format in ("TIFF", "GIF", "PNG"):
        path = tmp_path / file_format
        pages[0].save(path, file_format, save_all=True, append_images=pages[1:])
        assert np.array_equal(np.asarray(reader.read(path).pixels), RED)
    pages[0].save(tmp_path / "MPO", "MPO", save_all=True, append_images=pages[1:])
    reader.read(tmp_path / "MPO")
    reader.print_notes()
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'GIF'} and 2 more: of several pages or frames, the first is taken\n"
    )


def test_a_file_of_an_unknown_kind_is_told_from_a_damaged_one(tmp_path):
    (tmp_path / "a").write_text("text")
    with pytest.raises(ValueError, match=r"a: unreadable as an image \(not an image, or of a kind"):
        ImageReader().read(tmp_path / "a")
    Image.fromarray(RED).save(tmp_path / "b", "PNG")
    content = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(content[:50])
    with (
        pytest.raises(ValueError, match=r"b: unreadable as an image .*\); cure"),
        open_image(tmp_path / "b", "cure") as image,
    ):
        image.load()
