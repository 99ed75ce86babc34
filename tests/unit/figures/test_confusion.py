"""The confusion of classes is drawn as shares of the true classes."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from dsrl.figures import confusion


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """`b` does not occur; `c` is only predicted; `none of these` is a column of a class map."""
    path = tmp_path / "stage1" / "benchmark-val.confusion.csv"
    path.parent.mkdir()
    names = ["a", "b", "c", "007"]
    rows = [[6, 0, 2, 0, 2], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 3, 0]]
    frame = pd.DataFrame(rows, columns=[*names, "none of these"])
    frame.insert(0, "truth", names)
    frame.to_csv(path, index=False)
    return path


def test_shares_are_of_the_pixels_of_each_true_class(counts):
    shares = confusion.read_confusion(counts)
    assert shares.index.tolist() == ["a", "007"]
    assert shares.columns.tolist() == ["a", "c", "007", "none of these"]
    assert shares.to_numpy().tolist() == [[0.6, 0.2, 0, 0.2], [0.25, 0, 0.75, 0]]


def test_each_file_has_a_panel_with_its_numbers(counts, monkeypatch, tmp_path):
    drawn: list[Figure] = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, output: drawn.append(figure))
    confusion.plot_confusion([counts, counts], tmp_path / "a.png")
    axes = drawn[0].axes
    assert [ax.get_title() for ax in axes] == ["stage1/benchmark-val"] * 2
    texts = {text.get_position(): text.get_text() for text in axes[0].texts}
    assert texts == {(0, 0): "60", (1, 0): "20", (3, 0): "20", (0, 1): "25", (2, 1): "75"}
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == ["a", "007"], "rows are the truth"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,mean_iou\nx,0.5\n")
    with pytest.raises(ValueError, match=r"a\.csv: not a confusion of classes.*'truth' is missing"):
        confusion.read_confusion(path)
    path.write_text("")
    with pytest.raises(ValueError, match=r"a\.csv: no pixels to plot"):
        confusion.read_confusion(path)
