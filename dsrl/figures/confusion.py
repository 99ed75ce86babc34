"""Which classes are taken for which."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsrl.evaluation.table import read_csv
from dsrl.figures.figure import save_figure

INCHES = 0.42  # of a class


def plot_confusion(confusions: Sequence[Path], output: Path) -> None:
    """Plot confusion matrices beside each other: which share of the pixels of a class (row) is
    predicted as each class (column), in %. Classes that do not occur are left out.

    Args:
        confusions: `.confusion.csv` files of `dsrl benchmark`.
        output: image file.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is not such a file or has no pixels, or the image format is unsupported.
    """
    matrices = [read_confusion(path) for path in confusions]
    rows, columns = (max(matrix.shape[axis] for matrix in matrices) for axis in (0, 1))
    size = (len(matrices) * (INCHES * columns + 1.8), INCHES * rows + 2.4)
    figure = Figure(figsize=size, layout="tight")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for path, matrix, ax in zip(confusions, matrices, axes, strict=True):
        _draw(ax, matrix)
        name = path.name.removesuffix(".confusion.csv")
        ax.set_title(f"{path.parent.name}/{name}", fontsize=10)
    save_figure(figure, output)


def read_confusion(path: Path) -> pd.DataFrame:
    """The shares in 0..1 of the pixels of each class that occurs (rows) by what is predicted
    (columns); each row sums to 1.

    Raises:
        OSError, ValueError: see `plot_confusion`.
    """
    what = "a confusion of classes of `dsrl benchmark` (.confusion.csv)"
    frame = read_csv(path, ["truth"], what, texts=["truth"])
    if frame.empty:
        raise ValueError(f"{path}: no pixels to plot; the split has no labelled images")
    names = frame.columns[1:]
    pixels = frame.iloc[:, 1:].set_axis(frame.iloc[:, 0])
    occurring = pixels.sum(axis=1) > 0
    shown = [name for name in names if pixels[name].any() or occurring.get(name, False)]
    shares: pd.DataFrame = pixels.div(pixels.sum(axis=1), axis=0).loc[occurring, shown]
    return shares


def _draw(ax: Axes, shares: pd.DataFrame) -> None:
    """Draw one matrix, with the shares of at least 0.5 % as numbers."""
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, values in enumerate(shares.to_numpy()):
        for column, share in enumerate(values):
            if share >= 0.005:
                color = "white" if share > 0.5 else "black"
                text = f"{100 * share:.0f}"
                ax.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    ax.set_xticks(range(len(shares.columns)), shares.columns, rotation=90, fontsize=8)
    ax.set_yticks(range(len(shares)), shares.index, fontsize=8)
    ax.set_xlabel("predicted, % of the row's pixels")
    ax.set_ylabel("truth")
