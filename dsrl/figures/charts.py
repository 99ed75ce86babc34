"""Charts of CSV files: training curves, classes and experiments compared. They need no PyTorch."""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dsrl.evaluation.table import class_columns, read_csv, read_scores
from dsrl.figures.figure import save_figure

# Column of a history -> title of its panel.
CURVES = {
    "total": "loss on train",
    "cross_entropy": "cross entropy on train",
    "mean_squared_error": "SISR: mean squared error",
    "feature_affinity": "feature affinity",
    "val_cross_entropy": "cross entropy on val",
    "val_mean_iou": "mean IoU on val",
}


def plot_curves(histories: Sequence[Path], output: Path) -> None:
    """Plot the losses on train and the scores on val over the epochs, one line per stage.

    Args:
        histories: `history.csv` of stage 1, 2, ... in this order.
        output: image file.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is not a history or has no epochs, or the image format is unsupported.
    """
    figure = Figure(figsize=(12, 6.5), layout="tight")
    axes = figure.subplots(2, 3)
    for stage, path in enumerate(histories, start=1):
        history = read_csv(path, ["epoch", *CURVES], "a history of `dsrl train`")
        if history.empty:
            raise ValueError(f"{path}: the history has no epochs; train first")
        for (column, title), ax in zip(CURVES.items(), axes.flat, strict=True):
            ax.set_title(title, fontsize=10)
            ax.set_xlabel("epoch")
            points = history[["epoch", column]].dropna()
            # The loss of a branch that the stage does not have is exactly zero.
            if (points[column] != 0).any():
                # Not what acted in it: with w1 = w2 = 0, a history looks like any other.
                style = {"color": f"C{stage - 1}", "label": f"stage {stage}"}
                ax.plot(points["epoch"], points[column], ".-", **style)
    axes.flat[0].legend(fontsize=8)
    save_figure(figure, output)


def plot_classes(benchmark: Path, output: Path) -> None:
    """Plot the IoU of each class on the first split, one bar per stage; over several seeds, the
    mean and its standard deviation.

    Args:
        benchmark: CSV file of `dsrl table`, of one experiment.
        output: image file.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the CSV file is invalid or has no rows, or the image format is unsupported.
    """
    rows = _first_split(benchmark)
    columns = class_columns(rows)
    stages = 100 * rows.set_index("type")[columns]
    # As in the table, there is no mean for a class that is missing with one seed.
    means = stages.groupby(level=0, sort=False).mean(skipna=False)
    errors = stages.groupby(level=0, sort=False).std().fillna(0)
    figure = Figure(figsize=(max(6, 0.62 * len(columns)), 4), layout="tight")
    ax = figure.subplots()
    width = 0.8 / len(means)
    for number, name in enumerate(means.index):
        positions = [position + number * width for position in range(len(columns))]
        deviation = errors.loc[name] if errors.loc[name].any() else None
        ax.bar(positions, means.loc[name], width, yerr=deviation, label=str(name))
    ax.set_xticks(
        [position + 0.4 - width / 2 for position in range(len(columns))],
        [column.removeprefix("iou_") for column in columns],
        rotation=45,
        ha="right",
    )
    ax.set_ylabel("IoU %")
    ax.set_title(f"{rows.dataset.iloc[0]}, split {rows.split.iloc[0]}", fontsize=10)
    ax.legend(fontsize=8)
    save_figure(figure, output)


def plot_sweep(benchmark: Path, output: Path) -> None:
    """Plot mean IoU on the first split over input size and over GFLOPs, one line per stage (paper,
    Figure 1); over several seeds, the mean and its standard deviation.

    Args:
        benchmark: CSV file of `dsrl table`, of several experiments.
        output: image file.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the CSV file is invalid or has no rows, or the image format is unsupported.
    """
    rows = _first_split(benchmark)
    keys = ["dataset", "network", "encoder", "type", "experiment"]
    points = rows.groupby(keys, sort=False, as_index=False).agg(
        sizes=("sizes", "first"),
        gflops=("gflops", "first"),
        mean=("mean_iou", "mean"),
        std=("mean_iou", "std"),
    )
    points["input"] = points.sizes.str.split(" ").str[0]
    points["pixels"] = points.input.map(lambda size: int.__mul__(*map(int, size.split("x"))))
    figure = Figure(figsize=(11, 4.2), layout="tight")
    axes = figure.subplots(1, 2, sharey=True)
    for names, line in points.groupby(keys[:-1], sort=False):
        shown = [key == "type" or points[key].nunique() > 1 for key in keys[:-1]]
        label = ", ".join(map(str, compress(names, shown)))
        for ax, x in zip(axes, ("pixels", "gflops"), strict=True):
            ordered = line.sort_values(x)
            errors = 100 * ordered["std"].fillna(0)
            # Experiments of the same size differ in something else; a line would hide that.
            style = "o" if ordered[x].duplicated().any() else "o-"
            ax.errorbar(
                ordered[x], 100 * ordered["mean"], errors, fmt=style, capsize=3, label=label
            )
    sizes = points.drop_duplicates("input")
    axes[0].set_xscale("log")
    axes[0].set_xticks(sizes.pixels, sizes.input, rotation=45, ha="right")
    axes[0].minorticks_off()
    axes[0].set_xlabel("size of the input")
    axes[1].set_xlabel("GFLOPs of the pruned network")
    axes[0].set_ylabel("mean IoU %")
    axes[0].legend(fontsize=8)
    save_figure(figure, output)


def _first_split(path: Path) -> pd.DataFrame:
    """The rows of the first split in a table."""
    rows = read_scores(path)
    if rows.empty:
        raise ValueError(f"{path}: no scores to plot; the split has no labelled images")
    return rows[rows.split == rows.split.iloc[0]]
