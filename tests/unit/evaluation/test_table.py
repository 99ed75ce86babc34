"""The results table shows the figures of the CSV files, in their order."""

import math
import re

import pandas as pd
import pytest

from dsrl.evaluation.table import NOTE, format_table, read_scores, write_table


def row(**changes) -> pd.DataFrame:
    values = {
        "experiment": "demo",
        "seed": 0,
        "type": "SSSR",
        "dataset": "demo",
        "split": "val",
        "images": 5,
        "network": "deeplabv3plus",
        "encoder": "resnet18",
        "sizes": "32x64 -> 64x128",
        "class_map": "",
        "class_map_note": "",
        "device": "cpu",
        "versions": "dsrl 1",
        "date": "2026-01-01",
        "best_epoch": 7,
        "epochs": 30,
        "pixel_accuracy": 0.93284,
        "mean_iou": 0.57831,
        "mean_iou_per_image": 0.51784,
        "mean_iou_native": 0.5611,
        "boundary_iou": 0.4321,
        "cross_entropy": 0.2284,
        "baseline_class": "road",
        "baseline_pixel_accuracy": 0.4,
        "baseline_mean_iou": 0.1,
        "parameters": 1_234_567,
        "gflops": 3.456,
        "latency_ms": 12.34,
        "iou_road": 0.9,
        "iou_sky": math.nan,
    }
    return pd.DataFrame([values | changes])


def cells(text: str, first: str) -> list[str]:
    """The cells of the one line of a table that starts with `first`."""
    (line,) = (li for li in text.splitlines() if re.match(rf"\| {re.escape(first)} +\|", li))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_figures_stand_under_their_headings():
    text = format_table([row()])
    found = dict(zip(cells(text, "Type"), cells(text, "SSSR"), strict=True))
    assert found == {
        "Type": "SSSR",
        "Mean Accuracy %": "93.28",
        "Mean IoU %": "57.83 (51.78)",
        "Cross Entropy Error": "0.228",
        "Epochs": "30",
        "Best Epoch": "7",
        "Mean IoU % at label size": "56.11",
        "Boundary IoU %": "43.21",
        "Parameters (M)": "1.23",
        "GFLOPs": "3.46",
        "Latency (ms)": "12.3",
    }
    assert cells(text, "IoU %") == ["IoU %", "SSSR"]
    assert cells(text, "road") == ["road", "90.00"]
    assert cells(text, "sky") == ["sky", "-"]
    assert "predicting 'road' everywhere: accuracy 40.00 %, mean IoU 10.00 %" in text
    assert "demo, split val, 5 images" in text and "32x64 -> 64x128" in text


def test_lines_of_a_table_are_equally_long():
    text = format_table([row(), row(type="SSSR+SISR+FA", gflops=1234.5)])
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1


def test_figures_keep_their_digits_and_stand_on_the_right():
    text = format_table([row(mean_iou=0.5, parameters=2e6)])
    line = next(line for line in text.splitlines() if line.startswith("| SSSR "))
    assert line.startswith("| SSSR   |") and " 50.00 (51.78) |" in line and "  2.00 |" in line
    rule = next(line for line in text.splitlines() if line.startswith("|:-"))
    assert rule.count("-:|") == rule.count("|") - 2, "all but the first column are numbers"


def test_a_note_below_the_stages_says_what_the_names_mean():
    text = format_table([row()])
    stages, note, classes = (text.index(part) for part in ("| SSSR ", NOTE, "| IoU %"))
    assert stages < note < classes
    assert "pixel accuracy" in NOTE and "brackets" in NOTE and "\n" not in NOTE


def test_stages_follow_in_the_order_given_and_splits_apart():
    frames = [row(type=t, split=s) for s in ("val", "test") for t in ("SSSR", "SSSR+SISR")]
    text = format_table(frames)
    places = [text.index(part) for part in ("split val", "split test")]
    assert places == sorted(places)
    first = text[: places[1]]
    assert first.index("| SSSR ") < first.index("| SSSR+SISR ")
    assert cells(first, "road") == ["road", "90.00", "90.00"]


def test_experiments_with_other_classes_have_tables_of_their_own():
    other = row(dataset="own", iou_tree=0.25).drop(columns=["iou_road", "iou_sky"])
    text = format_table([row(), other])
    assert cells(text, "tree") == ["tree", "25.00"]
    assert cells(text, "road") == ["road", "90.00"]  # in one of the tables, not in both


def test_rows_of_the_same_network_have_the_same_latency():
    rows = [row(latency_ms=12.34), row(type="SSSR+SISR", latency_ms=25), row(type="x", gflops=9)]
    text = format_table([*rows[:2], rows[2].assign(latency_ms=50)])
    assert [cells(text, t)[-1] for t in ("SSSR", "SSSR+SISR", "x")] == ["12.3", "12.3", "50.0"]


def test_differences_are_paired_by_seed():
    """Of three pairs: mean, and Student's interval, whose quantile is 4.303."""
    gains = {0: 0.010, 1: 0.016, 2: 0.013}
    frames = [
        row(seed=seed, type=t, mean_iou=0.5 + 0.1 * seed + gain * (t != "SSSR"))
        for t in ("SSSR", "SSSR+SISR")
        for seed, gain in gains.items()
    ]
    text = format_table(frames)
    table = text[text.index("Differences to the first row") :]
    half = 4.303 * 0.3 / math.sqrt(3)
    found = dict(zip(cells(table, "Type"), cells(table, "SSSR+SISR"), strict=True))
    assert found == {
        "Type": "SSSR+SISR",
        "Difference to": "SSSR",
        "Mean IoU": f"+1.30 [{1.3 - half:+.2f}, {1.3 + half:+.2f}]",
        "Mean IoU at label size": "+0.00 [+0.00, +0.00]",
        "Boundary IoU": "+0.00 [+0.00, +0.00]",
        "Seeds": "3",
    }
    assert "Differences" not in format_table([row(), row(type="SSSR+SISR")])


def test_differences_are_to_what_was_trained_as_long():
    """The control of longer training, whatever its experiment; without one, the first row."""
    rows = [
        ("control", "SSSR", 30, 0.50),
        ("control", "SSSR (stage 2)", 38, 0.52),
        ("chained", "SSSR", 30, 0.50),
        ("chained", "SSSR+SISR", 38, 0.53),
        ("chained", "SSSR+SISR+FA", 46, 0.54),
    ]
    frames = [
        row(experiment=e, type=t, epochs=epochs, mean_iou=iou, seed=seed)
        for e, t, epochs, iou in rows
        for seed in (0, 1)
    ]
    text = format_table(frames)
    lines = text[text.index("Differences to the first row") :].splitlines()[4:8]
    found = [[cell.strip() for cell in line.split("|")[1:5]] for line in lines]
    assert found == [
        ["control", "SSSR (stage 2)", "control, SSSR", "+2.00 [+2.00, +2.00]"],
        ["chained", "SSSR", "control, SSSR", "+0.00 [+0.00, +0.00]"],
        ["chained", "SSSR+SISR", "control, SSSR (stage 2)", "+1.00 [+1.00, +1.00]"],
        ["chained", "SSSR+SISR+FA", "control, SSSR", "+4.00 [+4.00, +4.00]"],
    ]


def test_tables_of_earlier_versions_are_read(tmp_path):
    row().drop(columns=["boundary_iou", "epochs"]).to_csv(tmp_path / "1.csv", index=False)
    text = format_table([read_scores(tmp_path / "1.csv")])
    found = dict(zip(cells(text, "Type"), cells(text, "SSSR"), strict=True))
    assert found["Boundary IoU %"] == found["Epochs"] == "-"


def merge(paths, output):
    write_table([read_scores(path) for path in paths], output)


def test_csv_files_are_merged(tmp_path):
    row().to_csv(tmp_path / "1.csv", index=False)
    pd.DataFrame().to_csv(tmp_path / "2.csv", index=False)
    row(type="SSSR+SISR").to_csv(tmp_path / "3.csv", index=False)
    merge([tmp_path / f"{i}.csv" for i in (1, 2, 3)], tmp_path / "out" / "table.txt")
    expected = format_table([row(), row(type="SSSR+SISR")])
    assert (tmp_path / "out" / "table.txt").read_text() == expected
    merged = pd.read_csv(tmp_path / "out" / "table.csv")
    assert merged.type.tolist() == ["SSSR", "SSSR+SISR"]
    assert merged.mean_iou.tolist() == [0.57831] * 2


def test_only_empty_files_make_an_empty_table(tmp_path):
    pd.DataFrame().to_csv(tmp_path / "1.csv", index=False)
    merge([tmp_path / "1.csv"], tmp_path / "table.txt")
    assert "nothing was scored" in (tmp_path / "table.txt").read_text()
    assert read_scores(tmp_path / "table.csv").empty


def test_a_class_map_is_named_in_the_heading_and_explained_below():
    mapped = {"class_map": "a-b", "class_map_note": "predictions of wall count as wrong"}
    text = format_table([row(**mapped), row(type="SSSR+SISR", **mapped)])
    heading, _, rest = text.partition("| Type")
    assert "Classes:  counted by the class map a-b\n" in heading
    assert rest.count("\n\nClass map a-b: predictions of wall count as wrong.\n\n") == 1
    assert "lass map" not in format_table([row()])


def test_rows_with_a_class_map_and_without_are_told_apart_and_not_averaged():
    text = format_table([row(seed=0), row(seed=1, class_map="a-b", mean_iou=0.1, iou_road=0.2)])
    assert "counted by" not in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if "| SSSR " in line][:2] == [
        "",
        "a-b",
    ]
    assert cells(text, "Class map")[:2] == ["Class map", "Type"]
    assert cells(text, "road") == ["road", "90.00", "20.00"]


def test_csv_files_of_versions_without_class_maps_are_merged_with_those_of_now(tmp_path):
    row().drop(columns=["class_map", "class_map_note"]).to_csv(tmp_path / "1.csv", index=False)
    row(class_map="a-b", class_map_note="n").to_csv(tmp_path / "2.csv", index=False)
    merge([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "table.txt")
    expected = format_table([row(), row(class_map="a-b", class_map_note="n")])
    assert (tmp_path / "table.txt").read_text() == expected
    merge([tmp_path / "table.csv"], tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == expected


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary\x81", b'a,b\n"1,2\n3'])
def test_a_file_that_is_not_csv_is_refused(tmp_path, content):
    (tmp_path / "1.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.csv: not a CSV file"):
        read_scores(tmp_path / "1.csv")


def test_a_missing_column_is_named(tmp_path):
    row().drop(columns="gflops").to_csv(tmp_path / "1.csv", index=False)
    with pytest.raises(ValueError, match=r"1\.csv: not a CSV .*: column 'gflops' is missing"):
        read_scores(tmp_path / "1.csv")


def test_seeds_are_shown_as_mean_and_deviation():
    frames = [row(seed=seed, mean_iou=iou) for seed, iou in ((0, 0.50), (1, 0.54), (2, 0.55))]
    text = format_table(frames)
    assert "Seeds:    0, 1, 2; mean ± standard deviation" in text
    found = dict(zip(cells(text, "Type"), cells(text, "SSSR"), strict=True))
    assert found["Mean IoU %"] == "53.00 ± 2.65 (51.78 ± 0.00)"
    assert found["Best Epoch"] == "7, 7, 7"
    assert cells(text, "road") == ["road", "90.00 ± 0.00"]


def test_experiments_are_told_apart_by_what_differs():
    text = format_table(
        [row(experiment="a"), row(experiment="b", sizes="64x128 -> 128x256", iou_road=0.8)]
    )
    assert cells(text, "Experiment")[:3] == ["Experiment", "Sizes", "Type"]
    assert cells(text, "b")[:3] == ["b", "64x128 -> 128x256", "SSSR"]
    assert re.findall(r"^\| IoU %, (\w+)", text, re.MULTILINE) == ["a", "b"]
    assert "Network:  deeplabv3plus, resnet18\n" in text


def test_a_score_that_one_seed_lacks_is_not_averaged_over_the_others():
    text = format_table([row(seed=0), row(seed=1, iou_road=math.nan)])
    assert cells(text, "road") == ["road", "-"]


def test_rows_of_unknown_seeds_are_not_averaged():
    """Calls of `dsrl benchmark` by hand name neither experiment nor seed."""
    frames = [row(experiment="", seed=None, mean_iou=iou) for iou in (0.9, 0.5)]
    text = format_table(frames)
    assert "90.00 (51.78)" in text and "50.00 (51.78)" in text
    assert "±" not in text


def test_unnamed_experiments_stand_beside_named_ones(tmp_path):
    frames = [row(experiment="a"), row(experiment=None, seed=None, mean_iou=0.25)]
    for number, frame in enumerate(frames):
        frame.to_csv(tmp_path / f"{number}.csv", index=False)
    merge([tmp_path / "0.csv", tmp_path / "1.csv"], tmp_path / "table.txt")
    text = (tmp_path / "table.txt").read_text()
    assert "57.83 (51.78)" in text and "25.00 (51.78)" in text


def test_seeds_of_different_experiments_are_no_sample():
    text = format_table([row(experiment="a", seed=0), row(experiment="b", seed=1)])
    assert "±" not in text
