"""Figures are written in the format that the name of the file asks for."""

import pytest
from matplotlib.figure import Figure

from dsrl.figures.figure import save_figure


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a", b"\x89PNG")]
)
def test_the_suffix_gives_the_format(tmp_path, name, start):
    save_figure(Figure(figsize=(1, 1)), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_an_unsupported_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.doc: unsupported image format; choose .*png"):
        save_figure(Figure(figsize=(1, 1)), tmp_path / "a.doc")
    assert not list(tmp_path.iterdir())
