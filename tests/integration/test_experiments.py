"""Several experiments and seeds in one config, the report, and `track_code`."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pipeline import CONFIG, FIGURES, ROOT, command, dry_run, jobs, snakemake

from dsrl.config.settings import read_runs

EXPERIMENTS = {"small": {"input_size": [32, 32]}, "large": {"input_size": [32, 64]}}


def write_config(path: Path, **changes: object) -> Path:
    """The smallest config with two experiments and two seeds, an epoch a stage."""
    values = yaml.safe_load(CONFIG.read_text())
    values |= {"epochs": 1, "experiments": EXPERIMENTS, "seeds": [0, 1], **changes}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which this config has run."""
    folder = tmp_path_factory.mktemp("experiments")
    snakemake(folder, config=write_config(folder / "config.yaml"))
    return folder


def names(output: str) -> Counter[str]:
    """The jobs of a run without their stages."""
    counts: Counter[str] = Counter()
    for job, count in jobs(output).items():
        counts[job.split()[0]] += count
    return counts


def test_experiments_share_what_they_can(tmp_path: Path) -> None:
    """Archives and raw images once, prepared ones once for each size."""
    found = names(dry_run(tmp_path, config=write_config(tmp_path / "config.yaml")))
    assert found == {
        "settings": 14, "demo_data": 1, "unpack": 1, "preprocess": 2, "preprocess_train": 2,
        "train": 12, "prune": 4, "benchmark": 12, "table": 2, "results": 1, "sweep": 1,
        "classes": 2, "all": 1,
    } | dict.fromkeys(FIGURES, 4)  # fmt: skip


def test_equal_trainings_are_done_once(tmp_path: Path) -> None:
    """Those that differ in `w2` have stages 1 and 2 in common; a base network stage 1."""
    changes = {"same": {}, "more": {"w2": 2}, "base": {"last_stage": 1}, "none": {"w1": 0}}
    config = write_config(tmp_path / "config.yaml", experiments=changes, seeds=[0])
    found = names(dry_run(tmp_path, config=config))
    assert found["train"] == 3 + 1 + 0 + 2
    assert found["same_training"] == 0 + 2 + 1 + 1
    assert found["benchmark"] == 3 + 3 + 1 + 3
    assert found["prune"] == found["curves"] == found["confusion"] == 4
    assert found["super_resolution"] == found["affinity"] == 3, "a base network has no branch"


@pytest.mark.slow
def test_all_sizes_are_prepared_before_trainings_side_by_side_begin(tmp_path: Path) -> None:
    """Preparing takes all cores, and would wait for as long as a training has one."""
    sizes = {"small": [32, 32], "middle": [32, 48], "large": [32, 64]}
    config = write_config(
        tmp_path / "config.yaml",
        experiments={name: {"input_size": size} for name, size in sizes.items()},
        seeds=[],
        last_stage=1,
        threads_per_job=1,
    )
    files = [f"results/{name}/stage1/final.weights" for name in sizes]
    output = snakemake(tmp_path / "run", "--", *files, config=config)
    rules = re.findall(r"^(?:local)?rule (preprocess\w*|train):$", output, re.MULTILINE)
    assert [rule == "train" for rule in rules] == [False] * 6 + [True] * 3


@pytest.mark.slow
def test_a_shared_training_is_where_an_own_one_would_be(experiments: Path, tmp_path: Path) -> None:
    """Whatever the order in the config: what is trained already is not trained again."""
    shutil.copytree(experiments, tmp_path / "run", copy_function=shutil.copy2)
    config = write_config(
        tmp_path / "config.yaml",
        experiments={**EXPERIMENTS, "a-new-one": EXPERIMENTS["small"] | {"w2": 2}},
    )
    assert next(iter(read_runs(str(config)))) == "a-new-one/seed0", "it comes first"
    files = [f"results/{name}/seed1/stage2/final.weights" for name in ("small", "a-new-one")]
    output = snakemake(tmp_path / "run", "--", files[1], config=config)
    assert set(names(output)) <= {"settings", "same_training"}
    assert (tmp_path / "run" / files[0]).samefile(tmp_path / "run" / files[1])


@pytest.mark.slow
def test_table_has_mean_and_deviation_over_seeds(experiments: Path) -> None:
    table = pd.read_csv(experiments / "results/benchmark.csv")
    runs = table.groupby(["experiment", "seed"], sort=False).type.apply(list)
    assert runs.to_dict() == {
        (experiment, seed): ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]
        for experiment in EXPERIMENTS
        for seed in (0, 1)
    }
    rows = table[(table.experiment == "small") & (table.type == "SSSR")]
    assert rows.cross_entropy.nunique() == 2, "another seed is another training"
    scores = 100 * rows.mean_iou
    text = (experiments / "results/benchmark.txt").read_text()
    assert f"| {scores.mean():.2f} ± {scores.std():.2f} (" in " ".join(text.split())
    assert (experiments / "results/sweep.png").is_file()
    assert (experiments / "results/large/classes.png").is_file()


@pytest.mark.slow
def test_another_seed_trains_that_one_only(experiments: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", seeds=[0, 1, 2])
    found = names(dry_run(experiments, config=config))
    assert found == {
        "settings": 6, "train": 6, "prune": 2, "benchmark": 6,
        "table": 2, "results": 1, "sweep": 1, "classes": 2, "all": 1,
    } | dict.fromkeys(FIGURES, 2)  # fmt: skip


@pytest.mark.slow
def test_report_holds_table_and_pictures_in_categories(experiments: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    snakemake(experiments, "--report", str(report), config=experiments / "config.yaml")
    text = report.read_text()
    for category in ("Results", "Classes", "Predictions", "Branches", "Training"):
        assert f'"{category}"' in text
    for name in ("benchmark.txt", "sweep.png", "classes.png", "examples.png", "curves.png"):
        assert name in text


FROM_TRAINING = {"train", "prune", "benchmark", *FIGURES}
FROM_TRAINING |= {"table", "results", "sweep", "classes"}
TRACKED = {  # a module, and the rules whose room is at or above its own, or that follow from them
    "dsrl/figures/charts.py": {"sweep", "classes", "results", *FIGURES},
    "dsrl/losses/objective.py": FROM_TRAINING,
    "dsrl/data/preprocess.py": FROM_TRAINING | {"unpack", "preprocess", "preprocess_train"},
}


@pytest.mark.slow
@pytest.mark.parametrize("module", TRACKED)
def test_changed_module_repeats_the_rules_that_use_it(
    experiments: Path, tmp_path: Path, module: str
) -> None:
    """With `track_code`; a comment is no change."""
    shutil.copytree(experiments, tmp_path / "run", copy_function=shutil.copy2)
    for part in ("workflow", "dsrl", "config"):
        shutil.copytree(ROOT / part, tmp_path / "source" / part)
    for file in ("Snakefile", "pyproject.toml"):  # the latter has the order of the rooms
        shutil.copy(ROOT / file, tmp_path / "source")
    config = write_config(tmp_path / "config.yaml", track_code=True)

    def repeated(*arguments: str) -> set[str]:
        line = command(tmp_path / "run", *arguments, config=config)
        line[line.index("--snakefile") + 1] = str(tmp_path / "source/Snakefile")
        done = subprocess.run(
            line,
            capture_output=True, text=True, cwd=tmp_path / "source", check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "source")},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return set(names(done.stdout + done.stderr)) - {"all"}

    repeated("--touch")  # what was computed without `track_code` is taken as it is
    path = tmp_path / "source" / module
    path.write_text(path.read_text() + "\n# A comment.\n")
    assert repeated("--dry-run") == set()
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    assert repeated("--dry-run") == TRACKED[module]
