"""The results table: one row a stage, as in the original implementation's README."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from dsrl.system.files import atomic_file

# Of a benchmark's CSV, what the table shows.
COLUMNS = (
    *("experiment", "seed", "type", "dataset", "split", "images", "network", "encoder", "sizes"),
    *("device", "versions"),
    *("date", "best_epoch", "pixel_accuracy", "mean_iou", "mean_iou_per_image", "mean_iou_native"),
    *("cross_entropy", "baseline_class", "baseline_pixel_accuracy", "baseline_mean_iou"),
    *("parameters", "gflops", "latency_ms"),
)

# What rows of a table may differ in beside stage and seed; where they do, it becomes a column.
VARYING = ("experiment", "network", "encoder", "sizes")


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


def read_scores(path: Path) -> pd.DataFrame:
    """Read a CSV file of `dsrl benchmark` or `dsrl table`; see `read_csv`."""
    frame = read_csv(path, COLUMNS, "a CSV file of `dsrl benchmark`")
    names = frame["experiment"].astype(object).fillna("").astype(str) if len(frame) else None
    return frame if names is None else frame.assign(experiment=names)


def write_table(paths: Sequence[Path], output: Path) -> None:
    """Merge benchmark CSVs into `output` (text) and a CSV of the same name beside it."""
    frames = [read_scores(path) for path in paths]
    rows = [frame for frame in frames if len(frame)]
    write_tables(pd.concat(rows) if rows else pd.DataFrame(), format_tables(frames), output)


def write_tables(frame: pd.DataFrame, text: str, output: Path) -> None:
    """Write `text` to `output` and `frame` to a CSV of the same name beside it, each atomically."""
    with atomic_file(output) as text_file, atomic_file(output.with_suffix(".csv")) as csv_file:
        text_file.write_text(text, encoding="utf-8")
        frame.to_csv(csv_file, index=False)


def format_tables(frames: Sequence[pd.DataFrame]) -> str:
    """For each data set and split a heading, the table of the stages, and one of the classes for
    each experiment. Rows that differ in nothing but the seed are shown as mean ± standard
    deviation over the seeds (of a sample: n - 1)."""
    rows = [frame for frame in frames if len(frame)]
    if not rows:
        return "No labelled images in this split: nothing was scored.\n"
    groups: dict[Hashable, list[pd.DataFrame]] = {}
    for frame in rows:  # joined only within a data set, as the columns of classes differ
        for key, group in frame.groupby(["dataset", "split"], sort=False):
            groups.setdefault(key, []).append(group)
    parts = []
    for group in map(pd.concat, groups.values()):
        varying = [key for key in VARYING if group[key].nunique() > 1]
        parts += [_heading(group, varying), _stage_table(group, varying)]
        for name, experiment in group.groupby("experiment", sort=False):
            title = f"IoU %, {name}" if "experiment" in varying else "IoU %"
            parts.append(_class_table(experiment, title))
    return "\n\n".join(parts) + "\n"


def class_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that hold the IoU of a class."""
    return [column for column in rows.columns if column.startswith("iou_")]


def _heading(group: pd.DataFrame, varying: Sequence[str]) -> str:
    first = group.iloc[0]
    network = [str(first[key]) for key in VARYING[1:] if key not in varying]
    averaged = any(len(rows) > 1 for rows in _over_seeds(group, varying))
    seeds = group.seed.dropna().astype(int).astype(str).unique()
    lines = {
        "Data set": f"{first.dataset}, split {first['split']}, {first.images} images",
        "Network": ", ".join(network) or "see the table",
        "Seeds": f"{', '.join(seeds)}; mean ± standard deviation" if averaged else "",
        "Device": ", ".join(map(str, group.device.unique())),
        "Versions": first.versions,
        "Date": first.date,
        "Baseline": f"always answering '{first.baseline_class}': "
        f"accuracy {100 * first.baseline_pixel_accuracy:.2f} %, "
        f"mean IoU {100 * first.baseline_mean_iou:.2f} %",
    }
    return "\n".join(f"{name + ':':<10}{value}" for name, value in lines.items() if value)


def _stage_table(group: pd.DataFrame, varying: Sequence[str]) -> str:
    rows = [
        {key.capitalize(): runs[key].iloc[0] for key in varying}
        | {
            "Type": runs.type.iloc[0],
            "Mean Accuracy %": _percent(runs.pixel_accuracy),
            "Mean IoU %": f"{_percent(runs.mean_iou)} ({_percent(runs.mean_iou_per_image)})",
            "Cross Entropy Error": _mean(runs.cross_entropy, 3),
            "Best Epoch": ", ".join(runs.best_epoch.astype(str)),
            "Mean IoU % at label size": _percent(runs.mean_iou_native),
            "Parameters (M)": f"{runs.parameters.iloc[0] / 1e6:.2f}",
            "GFLOPs": f"{runs.gflops.iloc[0]:.2f}",
            "Latency (ms)": _mean(runs.latency_ms, 1),
        }
        for runs in _over_seeds(group, varying)
    ]
    return _markdown(pd.DataFrame(rows), text=len(varying) + 1)


def _class_table(runs: pd.DataFrame, title: str) -> str:
    columns = class_columns(runs)
    names, cells = [title], [[column.removeprefix("iou_") for column in columns]]
    for rows in _over_seeds(runs, []):
        names.append(rows.type.iloc[0])
        cells.append([_percent(rows[column]) for column in columns])
    return _markdown(pd.DataFrame(zip(*cells, strict=True), columns=names), text=1)


def _over_seeds(group: pd.DataFrame, varying: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows that differ in their seed only, together; those without one each alone."""
    for _, rows in group.groupby([*varying, "type"], sort=False):
        if rows.seed.notna().all() and rows.seed.is_unique:
            yield rows
        else:
            yield from (rows.iloc[[number]] for number in range(len(rows)))


def _percent(shares: pd.Series) -> str:
    return _mean(100 * shares, 2)


def _mean(values: pd.Series, digits: int) -> str:
    """The mean, with the standard deviation where there are several values."""
    if values.isna().any():
        return "-"
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 else mean


def _markdown(frame: pd.DataFrame, text: int) -> str:
    """A Markdown table with aligned columns: `text` columns to the left, numbers to the right."""
    cells = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    widths = [max(len(row[c]) for row in cells) for c in range(len(cells[0]))]
    rule = ["-" * width for width in widths[:text]]
    rule += ["-" * (width - 1) + ":" for width in widths[text:]]
    lines = [cells[0], rule, *cells[1:]]
    aligned = [str.ljust] * text + [str.rjust] * (len(widths) - text)
    return "\n".join(
        "| " + " | ".join(a(c, w) for a, c, w in zip(aligned, row, widths, strict=True)) + " |"
        for row in lines
    )
