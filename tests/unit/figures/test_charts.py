"""Charts show the values of the CSV files."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dsrl.evaluation.table import COLUMNS
from dsrl.figures import charts


def rows(experiment: str, size: str, gflops: float, ious: list[float]) -> list[dict[str, object]]:
    """A row for each seed of a stage; the class 'road' has the mean IoU, 'sky' none."""
    common = dict.fromkeys(COLUMNS, 1) | {
        "dataset": "demo",
        "split": "val",
        "network": "n",
        "encoder": "e",
        "type": "SSSR",
    }
    common |= {"experiment": experiment, "sizes": f"{size} -> ?", "gflops": gflops}
    return [
        {**common, "seed": seed, "mean_iou": iou, "iou_road": iou, "iou_sky": None}
        for seed, iou in enumerate(ious)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "benchmark.csv"
    values = rows("big", "64x128", 4.0, [0.5, 0.7]) + rows("small", "32x64", 1.0, [0.2, 0.4])
    other_split = [{**row, "split": "test", "mean_iou": 0.9} for row in values]
    pd.DataFrame(values + other_split).to_csv(path, index=False)
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures passed to `save_figure`."""
    figures: list[Figure] = []
    monkeypatch.setattr(charts, "save_figure", lambda figure, output: figures.append(figure))
    return figures


def test_sweep_has_a_point_for_each_experiment_in_the_order_of_cost(table, drawn) -> None:
    charts.plot_sweep(table, Path("unused"))
    by_size, by_gflops = drawn[0].axes
    for ax, places in ((by_size, [2048, 8192]), (by_gflops, [1.0, 4.0])):
        line, _, (bars,) = ax.containers[0]
        assert line.get_xdata().tolist() == places
        assert line.get_ydata() == pytest.approx([30, 60])
        half = [(end - start) / 2 for (_, start), (_, end) in bars.get_segments()]
        assert half == pytest.approx([14.1421, 14.1421], rel=1e-4)  # of a sample of two
    assert [text.get_text() for text in by_size.get_xticklabels()] == ["64x128", "32x64"]


def test_classes_have_a_bar_of_the_mean_over_seeds(table, drawn, tmp_path) -> None:
    frame = pd.read_csv(table)
    frame[frame.experiment == "small"].to_csv(tmp_path / "one.csv", index=False)
    charts.plot_classes(tmp_path / "one.csv", Path("unused"))
    (ax,) = drawn[0].axes
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[0] == pytest.approx(30) and heights[1] != heights[1], "no bar where no pixel is"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["road", "sky"]


def test_curves_show_each_stage_and_skip_branches_without_a_loss(drawn, tmp_path) -> None:
    history = pd.DataFrame({"epoch": [1, 2], **{name: [0.5, 0.25] for name in charts.CURVES}})
    first = history.assign(mean_squared_error=0.0, val_mean_iou=[None, 0.75])
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for path, frame in zip(paths, (first, history), strict=True):
        frame.to_csv(path, index=False)
    charts.plot_curves(paths, Path("unused"))
    panels = dict(zip(charts.CURVES, drawn[0].axes, strict=True))
    lines = {name: [line.get_label() for line in ax.lines] for name, ax in panels.items()}
    assert lines.pop("mean_squared_error") == ["stage 2"]
    assert all(labels == ["stage 1", "stage 2"] for labels in lines.values())
    assert panels["val_mean_iou"].lines[0].get_xydata().tolist() == [[2, 0.75]]


def test_a_history_without_epochs_is_refused(tmp_path) -> None:
    (tmp_path / "h.csv").write_text("\n")
    with pytest.raises(ValueError, match=r"h\.csv: the history has no epochs"):
        charts.plot_curves([tmp_path / "h.csv"], tmp_path / "out.png")


@pytest.mark.parametrize("draw", [charts.plot_sweep, charts.plot_classes])
def test_a_table_without_scores_is_refused(draw, tmp_path) -> None:
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.csv: no scores to plot"):
        draw(tmp_path / "empty.csv", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("draw", [charts.plot_sweep, charts.plot_classes])
def test_image_files_are_written(draw, table, tmp_path) -> None:
    draw(table, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.width > 300
