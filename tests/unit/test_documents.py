"""Pages that commands write say what the commands say."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

from dsrl.config.settings import read_runs
from dsrl.data.description import load_description
from dsrl.data.pairing import SplitPatterns
from dsrl.evaluation.table import format_table, read_scores

ROOT = Path(__file__).parents[2]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_config_readme_is_current() -> None:
    docs = load("workflow/scripts/config_docs.py")
    assert (ROOT / "config/README.md").read_text() == docs.documentation(), "run `make docs`"


def test_config_schema_is_current() -> None:
    docs = load("workflow/scripts/config_docs.py")
    path = ROOT / "workflow/schemas/config.schema.json"
    assert json.loads(path.read_text()) == json.loads(docs.schema()), "run `make docs`"


def test_cost_page_is_current_for_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    costs = load("benchmarks/network_cost.py")
    costs.CONFIGS = costs.CONFIGS[:1]
    costs.main()
    assert (ROOT / "docs/cost.md").read_text().startswith(capsys.readouterr().out)


@pytest.mark.slow
def test_cost_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the large networks, each is counted layer by layer."""
    load("benchmarks/network_cost.py").main()
    page = (ROOT / "docs/cost.md").read_text()
    assert capsys.readouterr().out == page, "run `python benchmarks/network_cost.py > docs/cost.md`"


def test_descriptions_in_the_documents_are_valid(tmp_path: Path) -> None:
    """Whole ones, and the splits that are shown alone."""
    page, checked = (ROOT / "docs/own-data.md").read_text(), 0
    for text in re.findall("```yaml\n(.*?)```", page, re.DOTALL):
        values = yaml.safe_load(text)
        if "labels" in values or "extends" in values:
            (tmp_path / "own.yaml").write_text(text)
            load_description(str(tmp_path / "own.yaml"))
        elif "train" in values:
            for patterns in values.values():
                SplitPatterns.model_validate(patterns)
        else:
            continue
        checked += 1
    assert checked == 6


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_configs_are_valid_and_have_their_own_folder(path: Path) -> None:
    others = [p for p in path.parent.glob("*.yaml") if p != path]
    folders = read_runs(str(path)).keys()
    for other in others:
        assert folders.isdisjoint(read_runs(str(other)))


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_benchmarks_use_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are run by hand, so that nothing else would notice what has moved."""
    monkeypatch.syspath_prepend(path.parent)  # where Python looks for the modules of a script
    load(str(path.relative_to(ROOT)))


def percent(values: pd.Series) -> str:
    return f"{100 * values.item():.1f}"


def test_measured_choices_are_those_of_the_csv_files() -> None:
    """docs/method.md against docs/results/."""
    page = (ROOT / "docs/method.md").read_text()
    frame = pd.read_csv(ROOT / "docs/results/recipe.csv").set_index(["network", "seed", "epoch"])
    columns = [
        *(("deeplabv3plus", 0, 24), ("deeplabv3plus", 1, 16)),
        *(("espnetv2", 0, 32), ("espnetv2", 1, 24)),
    ]
    for change, runs in frame.groupby("change"):
        cells = " | ".join(percent(runs.val_mean_iou[column]) for column in columns)
        assert f" | {cells} | " in page, change
    plain = frame[frame.change == "none"].val_mean_iou_average
    assert f" | {' | '.join(percent(plain[column]) for column in columns)} | " in page
    frame = pd.read_csv(ROOT / "docs/results/initialisation.csv")
    for layer, runs in frame.groupby("prediction_layer"):
        best = runs.groupby("seed").val_mean_iou.max()
        assert f" | {100 * best[0]:.1f} | {100 * best[1]:.1f} |" in page, layer

    mined = pd.read_csv(ROOT / "docs/results/ohem.csv")
    espnetv2 = mined[mined.experiment == "camvid-small-espnetv2"].mean_iou.item()
    before = pd.read_csv(ROOT / "docs/results/camvid-small-espnetv2.csv").mean_iou[0]
    assert f"ends at {100 * espnetv2:.2f} instead of {100 * before:.2f} %" in page
    mined = mined[mined.experiment == "ohem"]
    plain = pd.read_csv(ROOT / "docs/results/ablation-chained.csv")
    plain = plain[(plain.experiment == "small-control") & (plain.type == "SSSR")]
    for text, column in {
        "mean IoU %": "mean_iou",
        "pixel accuracy %": "pixel_accuracy",
        "cross entropy on val": "cross_entropy",
        "IoU % of bicyclist": "iou_bicyclist",
        "of pedestrian": "iou_pedestrian",
        "of sign": "iou_sign",
        "of pole": "iou_pole",
    }.items():
        scale, digits = (1, 3) if column == "cross_entropy" else (100, 2)
        cells = [
            f"{scale * rows[column].mean():.{digits}f} ± {scale * rows[column].std():.{digits}f}"
            for rows in (plain, mined)
        ]
        assert f"| {text} | {' | '.join(cells)} |" in page, text
    frame = pd.read_csv(ROOT / "docs/results/choices.csv").set_index(["experiment", "stage"])
    last = frame[frame.epoch == frame.groupby(level=[0, 1]).epoch.transform("max")]
    for change, name in {
        "w2 = 0.1": "small-chained-w2-low",
        "w2 = 1": "small-chained",
        "w2 = 10": "small-chained-w2-high",
        "w2 = 1, `fa_detach: super_resolution`": "small-chained-detach",
    }.items():
        row = last.loc[name, 3]
        cells = f"{row.feature_affinity:.3f} | {row.val_psnr:.2f} | {100 * row.val_mean_iou:.2f}"
        assert f"| {change} | {cells} |" in page
    ious = (100 * last.val_mean_iou).round(2)
    assert f"in stages 2 and 3 | | | {ious['small-control', 3]} |" in page
    for name in ("small-chained", "small-control", "small-chained-residual"):
        assert f"{ious[name, 2]} and {ious[name, 3]}" in " ".join(page.split()), name
    assert f"{ious['full-output upsampler', 1]:.1f} % at the last epoch" in " ".join(page.split())


@pytest.mark.parametrize(
    "file",
    [
        "docs/results/ablation-short.csv",
        "docs/results/ablation-small.csv",
        "docs/results/ablation-chained.csv",
        "docs/results/camvid-small.csv",
        "docs/results/camvid-small-espnetv2.csv",
        "tests/golden/demo.csv",
    ],
)
def test_tables_of_results_are_those_of_the_csv_file(file: str) -> None:
    page = (ROOT / "docs/results.md").read_text()
    table = format_table([read_scores(ROOT / file)])
    assert [line for line in table.splitlines() if line.startswith("|") and line not in page] == []


def test_curves_of_results_are_those_of_the_csv_file() -> None:
    page = " ".join((ROOT / "docs/results.md").read_text().split())
    frame = pd.read_csv(ROOT / "docs/results/ablation-short-histories.csv")
    before = {1: 0, 2: 36, 3: 44}
    for experiment, stages in (
        ("short-control", {1: "short-chained", 2: "short-control", 3: "short-control"}),
        ("short-chained", dict.fromkeys((1, 2, 3), "short-chained")),
        ("short-equal", {3: "short-equal"}),
    ):
        found = {}
        for stage, name in stages.items():
            rows = frame[(frame.experiment == name) & (frame.stage == stage)]
            offset = before[stage] if len(stages) > 1 else 0
            for epoch, iou in (100 * rows.groupby("epoch").val_mean_iou.mean()).items():
                found[epoch + offset] = f"{iou:.1f}"
        cells = [found[epoch] for epoch in (8, 16, 24, 36, 44, 52) if epoch in found]
        assert f"(`{experiment}`) | {' | '.join(cells)} |" in page, experiment


def test_the_readme_shows_the_rows_of_the_csv_files() -> None:
    page = (ROOT / "README.md").read_text()
    rows = {"SSSR": "SSSR", "SSSR+SISR": "SSSR (stage 2)", "SSSR+SISR+FA": "SSSR (stage 3)"}
    for name, control in rows.items():
        cells = []
        for size, file in (("short", "ablation-short"), ("small", "ablation-chained")):
            scores = pd.read_csv(ROOT / f"docs/results/{file}.csv").groupby(["experiment", "type"])
            ious = 100 * scores.mean_iou.agg(["mean", "std"])
            pairs = [ious.loc[f"{size}-chained", name], ious.loc[f"{size}-control", control]]
            cells += [f"{pair['mean']:.2f} ± {pair['std']:.2f}" for pair in pairs]
        assert f"| {name} | {' | '.join(cells)} |" in page
