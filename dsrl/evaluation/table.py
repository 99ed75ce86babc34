"""The results table: one row a stage, as in the original implementation's README."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import pandas as pd

from dsrl.files import atomic_file

# Of a benchmark's CSV, what the table shows.
COLUMNS = (
    *("type", "dataset", "split", "images", "network", "encoder", "sizes", "device", "versions"),
    *("date", "best_epoch", "pixel_accuracy", "mean_iou", "mean_iou_per_image", "mean_iou_native"),
    *("cross_entropy", "baseline_class", "baseline_pixel_accuracy", "baseline_mean_iou"),
    *("parameters", "gflops", "latency_ms"),
)


def read_csv(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """Read a CSV file with at least these columns; one without rows may be without columns.

    Args:
        what: what it should be, for the message.

    Raises:
        OSError, ValueError: it cannot be read, or is something else; one line names it.
    """
    try:
        frame = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:  # ParserError and UnicodeDecodeError are some
        raise ValueError(f"{path}: not {what}: {error}") from None
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"{path}: not {what}: it has no column '{missing[0]}'")
    return frame


def write_table(paths: Sequence[Path], output: Path) -> None:
    """Merge benchmark CSVs into `output` (text) and a CSV of the same name beside it."""
    frames = [read_csv(path, COLUMNS, "a CSV file of `dsrl benchmark`") for path in paths]
    rows = [frame for frame in frames if len(frame)]
    write_tables(pd.concat(rows) if rows else pd.DataFrame(), format_tables(frames), output)


def write_tables(frame: pd.DataFrame, text: str, output: Path) -> None:
    """Write `text` to `output` and `frame` to a CSV of the same name beside it, both or none."""
    with atomic_file(output) as text_file, atomic_file(output.with_suffix(".csv")) as csv_file:
        text_file.write_text(text, encoding="utf-8")
        frame.to_csv(csv_file, index=False)


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
