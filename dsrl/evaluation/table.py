"""The results table: one row per stage, as in the original implementation's README."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from dsrl.system.files import atomic_file

# The columns of a benchmark's CSV that the table needs.
COLUMNS = (
    *("experiment", "seed", "type", "dataset", "split", "images", "network", "encoder", "sizes"),
    *("device", "versions"),
    *("date", "best_epoch", "pixel_accuracy", "mean_iou", "mean_iou_per_image", "mean_iou_native"),
    *("cross_entropy", "baseline_class", "baseline_pixel_accuracy", "baseline_mean_iou"),
    *("parameters", "gflops", "latency_ms"),
)

# Columns of text that may be empty. Earlier versions had only the first.
TEXTS = ("experiment", "class_map", "class_map_note")
# Columns that files of earlier versions lack.
LATER = ("epochs", "boundary_iou")
# The quantile 0.975 of Student's t distribution with 1, 2, ... degrees of freedom.
T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)

# Shown as columns of the table where its rows differ in them, and otherwise in the heading.
VARYING = ("experiment", "network", "encoder", "sizes", "class_map")

SAME_NETWORK = ("network", "encoder", "sizes", "parameters", "gflops", "device")

NOTE = (
    "Mean Accuracy is the original's name for pixel accuracy. Mean IoU in brackets: of each image "
    "alone, averaged over the images."
)


def read_csv(
    path: Path, columns: Sequence[str], what: str, texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a CSV file that has at least these columns; an empty file gives an empty frame.

    Args:
        what: the kind of file expected, for the message.
        texts: columns of text, in which 007 is not 7.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is another kind of file.
    """
    try:
        frame = pd.read_csv(
            path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""]
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:  # including ParserError and UnicodeDecodeError
        raise ValueError(f"{path}: not {what}: {error}") from None
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"{path}: not {what}: column '{missing[0]}' is missing")
    return frame


def read_scores(path: Path) -> pd.DataFrame:
    """Read a CSV file of `dsrl benchmark` or `dsrl table`; see `read_csv`."""
    frame = read_csv(path, COLUMNS, "a CSV file of `dsrl benchmark`")
    if frame.empty:
        return frame
    # An empty text is read as NaN, which `groupby` would drop; an experiment named "1" as a number.
    texts = {
        column: frame[column].astype(object).fillna("").astype(str) if column in frame else ""
        for column in TEXTS
    }
    missing = {column: float("nan") for column in LATER if column not in frame}
    return frame.assign(**texts, **missing)


def write_table(frames: Sequence[pd.DataFrame], output: Path) -> None:
    """Write the table to `output` (text) and all rows to a CSV of the same name, each atomically.

    Args:
        frames: with the columns COLUMNS, TEXTS and `iou_<class>`, in the order of the rows; or
            empty.
    """
    scored = [frame for frame in frames if len(frame)]
    rows = pd.concat(scored) if scored else pd.DataFrame()
    with atomic_file(output) as text_file, atomic_file(output.with_suffix(".csv")) as csv_file:
        text_file.write_text(format_table(scored), encoding="utf-8")
        rows.to_csv(csv_file, index=False)


def format_table(frames: Sequence[pd.DataFrame]) -> str:
    """For each data set and split a heading, the table of the stages, and a table of the classes
    for each experiment. Rows that differ only in the seed are shown as mean ± standard deviation
    over the seeds (of a sample: n - 1).

    Args:
        frames: see `write_table`; none of them empty.
    """
    if not frames:
        return "No labelled images in this split: nothing was scored.\n"
    groups: dict[Hashable, list[pd.DataFrame]] = {}
    for frame in frames:  # concatenated per data set only, as the class columns differ
        for key, group in frame.groupby(["dataset", "split"], sort=False):
            groups.setdefault(key, []).append(group)
    parts = []
    for group in map(pd.concat, groups.values()):
        varying = [key for key in VARYING if group[key].nunique() > 1]
        parts += [_heading(group, varying), _stage_table(group, varying), NOTE]
        parts += _differences(group, varying)
        maps = group[group.class_map != ""].groupby(["class_map", "class_map_note"], sort=False)
        parts += [f"Class map {name}: {note}." for (name, note), _ in maps]
        for name, experiment in group.groupby("experiment", sort=False):
            title = f"IoU %, {name}" if "experiment" in varying else "IoU %"
            parts.append(_class_table(experiment, title))
    return "\n\n".join(parts) + "\n"


def class_columns(rows: pd.DataFrame) -> list[str]:
    """Names of the columns with the IoU of a class."""
    return [column for column in rows.columns if column.startswith("iou_")]


def _heading(group: pd.DataFrame, varying: Sequence[str]) -> str:
    first = group.iloc[0]
    network = [str(first[key]) for key in ("network", "encoder", "sizes") if key not in varying]
    class_map = first.class_map if "class_map" not in varying else ""
    averaged = any(len(rows) > 1 for rows in _over_seeds(group, varying))
    seeds = group.seed.dropna().astype(int).astype(str).unique()
    lines = {
        "Data set": f"{first.dataset}, split {first['split']}, {first.images} images",
        "Network": ", ".join(network) or "see the table",
        "Classes": f"counted by the class map {class_map}" if class_map else "",
        "Seeds": f"{', '.join(seeds)}; mean ± standard deviation" if averaged else "",
        "Device": ", ".join(map(str, group.device.unique())),
        "Versions": first.versions,
        "Date": first.date,
        "Baseline": f"predicting '{first.baseline_class}' everywhere: "
        f"accuracy {100 * first.baseline_pixel_accuracy:.2f} %, "
        f"mean IoU {100 * first.baseline_mean_iou:.2f} %",
    }
    return "\n".join(f"{name + ':':<10}{value}" for name, value in lines.items() if value)


def _stage_table(group: pd.DataFrame, varying: Sequence[str]) -> str:
    # Pruned, all stages are the same network, which other jobs may have slowed down in some rows.
    latency = group.groupby(list(SAME_NETWORK)).latency_ms.transform("min")
    rows = [
        {key.capitalize().replace("_", " "): runs[key].iloc[0] for key in varying}
        | {
            "Type": runs.type.iloc[0],
            "Mean Accuracy %": _percent(runs.pixel_accuracy),
            "Mean IoU %": f"{_percent(runs.mean_iou)} ({_percent(runs.mean_iou_per_image)})",
            "Cross Entropy Error": _mean(runs.cross_entropy, 3),
            "Epochs": _mean(runs.epochs[:1], 0),
            "Best Epoch": ", ".join(runs.best_epoch.astype(str)),
            "Mean IoU % at label size": _percent(runs.mean_iou_native),
            "Boundary IoU %": _percent(runs.boundary_iou),
            "Parameters (M)": f"{runs.parameters.iloc[0] / 1e6:.2f}",
            "GFLOPs": f"{runs.gflops.iloc[0]:.2f}",
            "Latency (ms)": f"{runs.latency_ms.iloc[0]:.1f}",
        }
        for runs in _over_seeds(group.assign(latency_ms=latency), varying)
    ]
    return _markdown(pd.DataFrame(rows), text_columns=len(varying) + 1)


def _differences(group: pd.DataFrame, varying: Sequence[str]) -> list[str]:
    """A table of what rows differ from the first one that was trained as long, or else from the
    first of all, seed by seed; none without seeds."""
    shown: list[pd.DataFrame] = []
    rows = []
    for runs in _over_seeds(group, varying):
        alike = [other for other in shown if other.epochs.iloc[0] == runs.epochs.iloc[0]]
        shown.append(runs)
        first = (alike or shown)[0]
        pairs = runs.merge(first, on="seed", suffixes=("", "_first"))
        if first is not runs and len(pairs) > 1:
            rows.append(
                {key.capitalize().replace("_", " "): runs[key].iloc[0] for key in varying}
                | {
                    "Type": runs.type.iloc[0],
                    "Difference to": ", ".join(
                        str(first[key].iloc[0]) for key in (*varying, "type")
                    ),
                }
                | {
                    title: _interval(100 * (pairs[column] - pairs[f"{column}_first"]))
                    for title, column in (
                        ("Mean IoU", "mean_iou"),
                        ("Mean IoU at label size", "mean_iou_native"),
                        ("Boundary IoU", "boundary_iou"),
                    )
                }
                | {"Seeds": str(len(pairs))}
            )
    if not rows:
        return []
    title = (
        "Differences to the first row that was trained as long, or else to the first, in points, "
        "over pairs of equal seeds: mean [95 % interval]"
    )
    return [title, _markdown(pd.DataFrame(rows), text_columns=len(varying) + 2)]


def _interval(values: pd.Series) -> str:
    """Mean and 95 % confidence interval, by Student's t; "-" if a value is NaN."""
    if values.isna().any():
        return "-"
    freedom = len(values) - 1
    t = T[freedom - 1] if freedom <= len(T) else 1.96 + 2.5 / freedom
    half = t * values.std() / len(values) ** 0.5
    return f"{values.mean():+.2f} [{values.mean() - half:+.2f}, {values.mean() + half:+.2f}]"


def _class_table(runs: pd.DataFrame, title: str) -> str:
    columns = class_columns(runs)
    names, cells = [title], [[column.removeprefix("iou_") for column in columns]]
    for rows in _over_seeds(runs, ["class_map"]):
        names.append(rows.type.iloc[0])
        cells.append([_percent(rows[column]) for column in columns])
    return _markdown(pd.DataFrame(zip(*cells, strict=True), columns=names), text_columns=1)


def _over_seeds(group: pd.DataFrame, varying: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Rows that differ only in their seed, together; rows without a seed, one at a time."""
    for _, rows in group.groupby([*varying, "type"], sort=False):
        if rows.seed.notna().all() and rows.seed.is_unique:
            yield rows
        else:
            yield from (rows.iloc[[number]] for number in range(len(rows)))


def _percent(shares: pd.Series) -> str:
    return _mean(100 * shares, 2)


def _mean(values: pd.Series, digits: int) -> str:
    """The mean, with the standard deviation if there are several values; "-" if one is NaN."""
    if values.isna().any():
        return "-"
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 else mean


def _markdown(frame: pd.DataFrame, text_columns: int) -> str:
    """A Markdown table of formatted cells: text to the left, numbers to the right."""
    numbers = frame.shape[1] - text_columns
    alignment = ["left"] * text_columns + ["right"] * numbers
    return frame.to_markdown(index=False, colalign=alignment, disable_numparse=True)
