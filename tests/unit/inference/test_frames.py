"""Which files of a folder are read, and what happens without PyAV."""

import sys

import pytest
from PIL import Image

from dsrl.inference.frames import files_in, list_frames


def test_a_folder_stands_for_its_images_and_films_alone(tmp_path):
    for name in ("b.png", "a.JPG", "c.mp4", "notes.txt", "._b.png", ".c.mp4", "Thumbs.db"):
        (tmp_path / name).touch()
    assert [path.name for path in files_in(tmp_path)] == ["a.JPG", "b.png", "c.mp4"]
    for path in files_in(tmp_path):
        path.unlink()
    with pytest.raises(ValueError, match="no image or film in this folder"):
        files_in(tmp_path)


def test_without_pyav_films_are_refused_and_images_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    (tmp_path / "film.mp4").touch()
    with pytest.raises(
        ValueError, match=r"film\.mp4: .*needs PyAV; .*`pip install dsrl\[video\]`$"
    ):
        list(list_frames(tmp_path / "film.mp4"))
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    ((number, image),) = list_frames(tmp_path / "a.png")
    assert (number, image.shape) == (None, (2, 3, 3))
