"""Frames of image files, animations and videos: right order, size and orientation."""

import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dsrl.inference.frames import PICTURES, files_below, is_animated, list_frames


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / "a.jpg", exif=exif)
    ((number, upright),) = list_frames(tmp_path / "a.jpg")
    assert number is None
    assert upright.shape == (40, 20, 3)
    assert upright[:20].mean() > 200 > 50 > upright[20:].mean()


def test_frames_of_an_animation_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("red", "lime", "blue")]
    for number, frame in enumerate(frames):
        frame.paste("white", (10 * number, 0, 10 * number + 10, 20))
    for name in ("a.png", "a.webp"):
        lossless = {"lossless": True} if name == "a.webp" else {}
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], exif=exif, **lossless)
        for (number, found), frame in zip(list_frames(path), frames, strict=True):
            assert np.array_equal(found, np.rot90(np.asarray(frame), -1)), (name, number)


def make_video(path: Path, frames: int) -> None:
    """A video of 64x32 pixels, red on the left and growing green on the right."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(frames):
            pixels = np.zeros((32, 64, 3), np.uint8)
            pixels[:, :32, 0], pixels[:, 32:, 1] = 250, 40 * number
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".MP4"])
def test_videos_are_read_frame_by_frame(tmp_path, suffix):
    path = tmp_path / f"video{suffix}"
    make_video(path, 5)
    frames = list_frames(path)
    assert next(frames)[0] == 0  # before the others are decoded
    rest = list(frames)
    assert [number for number, _ in rest] == [1, 2, 3, 4]
    for number, image in rest:
        assert (image.shape, image.dtype) == ((32, 64, 3), np.uint8)
        assert np.abs(image[:, 4:28].mean((0, 1)) - [250, 0, 0]).max() < 20
        assert np.abs(image[:, 36:60].mean((0, 1)) - [0, 40 * number, 0]).max() < 20


def test_a_video_of_a_telephone_held_upright_is_turned(tmp_path):
    path = tmp_path / "video.mp4"
    make_video(path, 2)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # turned by 90 degrees to the right
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)
    path.write_bytes(content)
    _, image = next(list_frames(path))
    assert image.shape == (64, 32, 3)
    assert image[4:28].mean((0, 1))[0] > 200 > 50 > image[36:60].mean((0, 1))[0], "red is on top"


@pytest.mark.parametrize("cut", [0, 1, 100, 0.5, 0.9])
def test_a_damaged_video_is_named(tmp_path, cut):
    path = tmp_path / "video.mp4"
    make_video(path, 3)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match=r"video\.mp4: unreadable as a video \(.*get it again"):
        list(list_frames(path))


def test_a_playlist_is_no_video(tmp_path):
    """FFmpeg would open the files that it names."""
    make_video(tmp_path / "other.mp4", 1)
    path = tmp_path / "video.mp4"
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(ValueError, match=r"video\.mp4: unreadable as a video"):
        list(list_frames(path))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_a_file_that_is_not_an_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: unreadable as an image"):
        list(list_frames(path))


def test_a_folder_stands_for_the_images_and_videos_in_it_and_below(tmp_path):
    images = ["a.JPG", "b.png", "below/a.webp", "below/deep/c.Avif", "c.mp4", "d.e.tif"]
    others = ["notes.txt", "README", "feat.h5", "x.eps", "x.ps", "x.PDF", "x.mpg", "below/y.pdf"]
    clutter = ["._b.png", "._c.mp4", "Thumbs.db", "desktop.ini", ".DS_Store", ".git/a.png"]
    for name in [*images, *others, *clutter, "__MACOSX/a.png", "below/__MACOSX/a.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, left_out = files_below(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == images
    counts = {".txt": 1, "without suffix": 1, ".h5": 1, ".eps": 1, ".ps": 1, ".pdf": 2, ".mpg": 1}
    assert left_out == counts


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path):
    for name in ("folder/a.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "folder")
    found, _ = files_below(tmp_path / "folder")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "folder/a.png",
        "folder/link/b.png",
    ]


@pytest.mark.parametrize("suffix", sorted(PICTURES - {".apng", ".avifs", ".mpo"}))
def test_every_suffix_of_a_picture_is_of_a_format_that_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("1" if suffix == ".pbm" else "RGB", (16, 8)).save(path)
    ((number, image),) = list_frames(path)
    assert (number, image.shape) == (None, (8, 16, 3))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng", ".avif", ".avifs"])
def test_animations_are_known_without_decoding(tmp_path, suffix, monkeypatch):
    path, still = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    frames = [Image.new("RGB", (24, 16), (60 * k, 0, 0)) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    frames[0].save(still)
    assert [number for number, _ in list_frames(path)] == [0, 1, 2]
    assert [number for number, _ in list_frames(still)] == [None]
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("must not be decoded"))
    assert is_animated(path) and not is_animated(still)


def test_heic_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(ValueError, match=r"a\.HEIC: .*HEIC cannot be read; convert it to JPEG"):
        list(list_frames(tmp_path / "a.HEIC"))


def test_without_pyav_videos_are_refused_and_images_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    (tmp_path / "video.mp4").touch()
    with pytest.raises(ValueError, match=r"video\.mp4: .*needs PyAV; .*`pip install av`$"):
        list(list_frames(tmp_path / "video.mp4"))
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    ((number, image),) = list_frames(tmp_path / "a.png")
    assert (number, image.shape) == (None, (2, 3, 3))
