"""The results table: one row a stage, as in the original implementation's README."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import pandas as pd

from dsrl.files import atomic_file, write_text


def read_rows(paths: Sequence[Path]) -> list[pd.DataFrame]:
    """Read the CSV files that `dsrl benchmark` wrote; one without rows becomes an empty frame.

    Raises:
        ValueError: a file is no CSV.
    """
    frames = []
    for path in paths:
        try:
            frames.append(pd.read_csv(path))
        except pd.errors.EmptyDataError:
            frames.append(pd.DataFrame())
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a CSV file of `dsrl benchmark`: {error}") from None
    return frames


def write_table(paths: Sequence[Path], output: Path) -> None:
    """Merge benchmark CSVs into `output` (text) and a CSV of the same name beside it."""
    frames = read_rows(paths)
    rows = [frame for frame in frames if len(frame)]
    with atomic_file(output.with_suffix(".csv")) as temporary:
        (pd.concat(rows) if rows else pd.DataFrame()).to_csv(temporary, index=False)
    write_text(output, format_tables(frames))


def format_tables(frames: Sequence[pd.DataFrame]) -> str:
    """A heading and two tables, of the stages and of the classes, for each data set and split."""
    rows = [frame for frame in frames if len(frame)]
    if not rows:
        return "No labelled images in this split: nothing was scored.\n"
    groups: dict[Hashable, list[pd.DataFrame]] = {}
    for frame in rows:  # joined only within a data set, as the columns of classes differ
        for key, group in frame.groupby(["dataset", "split", "sizes", "encoder"], sort=False):
            groups.setdefault(key, []).append(group)
    parts = []
    for group in map(pd.concat, groups.values()):
        parts += [_heading(group), _stage_table(group), _class_table(group)]
    return "\n\n".join(parts) + "\n"


def _heading(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    lines = {
        "Data set": f"{first.dataset}, split {first['split']}, {first.images} images",
        "Network": f"{first.network}, {first.encoder}, {first.sizes}",
        "Device": first.device,
        "Versions": first.versions,
        "Date": first.date,
        "Baseline": f"always answering '{first.baseline_class}': "
        f"accuracy {100 * first.baseline_pixel_accuracy:.2f} %, "
        f"mean IoU {100 * first.baseline_mean_iou:.2f} %",
    }
    return "\n".join(f"{name + ':':<10}{value}" for name, value in lines.items())


def _stage_table(group: pd.DataFrame) -> str:
    columns = {
        "Type": group.type,
        "Mean Accuracy %": _percent(group.pixel_accuracy),
        "Mean IoU %": _percent(group.mean_iou) + " (" + _percent(group.mean_iou_per_image) + ")",
        "Cross Entropy Error": group.cross_entropy.map("{:.3f}".format),
        "Best Epoch": group.best_epoch.astype(str),
        "Mean IoU % at label size": _percent(group.mean_iou_native),
        "Parameters (M)": (group.parameters / 1e6).map("{:.2f}".format),
        "GFLOPs": group.gflops.map("{:.2f}".format),
        "Latency (ms)": group.latency_ms.map("{:.1f}".format),
    }
    return _markdown(pd.DataFrame(columns))


def _class_table(group: pd.DataFrame) -> str:
    names = [column for column in group.columns if column.startswith("iou_")]
    columns = {"IoU %": [name.removeprefix("iou_") for name in names]}
    for _, row in group.iterrows():
        columns[row.type] = list(_percent(row[names]))
    return _markdown(pd.DataFrame(columns))


def _percent(shares: pd.Series) -> pd.Series:
    return shares.map(lambda share: "-" if pd.isna(share) else f"{100 * share:.2f}")


def _markdown(frame: pd.DataFrame) -> str:
    """A Markdown table with aligned columns: the first to the left, numbers to the right."""
    cells = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    widths = [max(len(row[c]) for row in cells) for c in range(len(cells[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"
        for row in lines
    )
