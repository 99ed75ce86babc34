"""Charts of what was measured: trainings, classes, and experiments beside each other."""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from dsrl.config.settings import STAGE_NAMES
from dsrl.evaluation.table import class_columns, read_csv, read_scores
from dsrl.figures.examples import save_figure


def plot_curves(histories: Sequence[Path], output: Path) -> None:
    """Losses on train, and mean IoU on val, against the epoch; one line for each history.

    Args:
        histories: `history.csv` of stage 1, 2, ... in this order.
        output: picture file.
    """
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5))
    panels = {
        "total": "loss on train",
        "cross_entropy": "cross entropy on train",
        "mean_squared_error": "SISR: mean squared error",
        "feature_affinity": "feature affinity",
        "val_cross_entropy": "cross entropy on val",
        "val_mean_iou": "mean IoU on val",
    }
    for stage, path in enumerate(histories, start=1):
        history = read_csv(path, ["epoch", *panels], "a history of `dsrl train`")
        if history.empty:
            raise ValueError(f"{path}: a history without epochs; train first")
        for (column, title), ax in zip(panels.items(), axes.flat, strict=True):
            ax.set_title(title, fontsize=10)
            ax.set_xlabel("epoch")
            shown = history[["epoch", column]].dropna()
            # A branch that the stage lacks has a loss of exactly zero.
            if (shown[column] != 0).any():
                name = STAGE_NAMES[stage]
                ax.plot(shown["epoch"], shown[column], ".-", color=f"C{stage - 1}", label=name)
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    save_figure(figure, output)


def plot_classes(benchmark: Path, output: Path) -> None:
    """The IoU of each class on the first split, a bar for each stage; over seeds, the mean and its
    standard deviation.

    Args:
        benchmark: CSV of `dsrl table`, of one experiment.
        output: picture file.

    Raises:
        ValueError: the CSV has no rows.
    """
    rows = _first_split(benchmark)
    columns = class_columns(rows)
    stages = 100 * rows.set_index("type")[columns]
    # As in the table, a class that one seed lacks has no mean.
    means = stages.groupby(level=0, sort=False).mean(skipna=False)
    errors = stages.groupby(level=0, sort=False).std().fillna(0)
    figure, ax = plt.subplots(figsize=(max(6, 0.62 * len(columns)), 4))
    width = 0.8 / len(means)
    for number, name in enumerate(means.index):
        places = [place + number * width for place in range(len(columns))]
        deviation = errors.loc[name] if errors.loc[name].any() else None
        ax.bar(places, means.loc[name], width, yerr=deviation, label=str(name))
    ax.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(columns))],
        [column.removeprefix("iou_") for column in columns],
        rotation=45,
        ha="right",
    )
    ax.set_ylabel("IoU %")
    ax.set_title(f"{rows.dataset.iloc[0]}, split {rows.split.iloc[0]}", fontsize=10)
    ax.legend(fontsize=8)
    figure.tight_layout()
    save_figure(figure, output)


def plot_sweep(benchmark: Path, output: Path) -> None:
    """Mean IoU on the first split against input size and against GFLOPs, a line for each stage
    (paper, Figure 1); over seeds, the mean and its standard deviation.

    Args:
        benchmark: CSV of `dsrl table`, of several experiments.
        output: picture file.

    Raises:
        ValueError: the CSV has no rows.
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
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for names, line in points.groupby(keys[:-1], sort=False):
        shown = [key == "type" or points[key].nunique() > 1 for key in keys[:-1]]
        for ax, x in zip(axes, ("pixels", "gflops"), strict=True):
            ordered = line.sort_values(x)
            errors = 100 * ordered["std"].fillna(0)
            label = ", ".join(map(str, compress(names, shown)))
            # Experiments of one size differ in something else, which no line should hide.
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
    figure.tight_layout()
    save_figure(figure, output)


def _first_split(path: Path) -> pd.DataFrame:
    """The rows of the first split that a table has."""
    rows = read_scores(path)
    if rows.empty:
        raise ValueError(f"{path}: no scores to picture; the split has no labelled images")
    return rows[rows.split == rows.split.iloc[0]]
