"""GPUs are shared out among the jobs of a machine. They are fakes: PyTorch does not see them."""

import re
from pathlib import Path

import pytest
from pipeline import STAGE_1, dry_run, jobs, snakemake
from recording import at_once, recorded, runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpus")


@pytest.fixture
def record(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trainings are recorded, with two GPUs that nobody else claims."""
    for name, value in recorded(tmp_path / "record").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "record"


@pytest.mark.slow
def test_trainings_run_side_by_side_each_on_a_gpu_of_its_own(folder: Path, record: Path) -> None:
    targets = [f"results/tiny/stage{stage}/final.weights" for stage in (1, 2, 3)]
    # The stages do not wait for one another, so that three could run at once.
    output = snakemake(folder, "--cores", "3", *targets, "--config", "init=encoder", "epochs=8")
    assert re.search(r"Provided resources: gpu=.*\b2\b", output)
    found = runs(record)
    assert sorted(run.stage for run in found) == [1, 2, 3]
    assert sorted(len(run.devices) for run in found) == [1, 1, 1]
    together = at_once(found)
    assert together, "no two trainings ran at the same time"
    assert not [pair for pair in together if pair[0].devices & pair[1].devices]
    assert set().union(*(run.devices for run in found)) == {("", "0"), ("", "1")}


@pytest.mark.slow
def test_a_training_on_several_gpus(folder: Path, record: Path) -> None:
    """torchrun starts as many processes; with how many is no reason to train again."""
    snakemake(folder, "--config", "seed=1", "gpus_per_job=2", "--", STAGE_1)
    found = runs(record)
    assert sorted(run.variables["RANK"] for run in found) == ["0", "1"]
    assert {run.devices for run in found} == {frozenset({("", "0"), ("", "1")})}
    again = dry_run(folder, "--config", "seed=1", "--", STAGE_1)
    assert "Nothing to be done" in again


@pytest.mark.parametrize(
    ("visible", "arguments", "expected"),
    [
        ("0,1", ["--config", "gpus_per_job=3"], "gpus_per_job is 3; GPUs available: 2"),
        ("0,1", ["--resources", "gpu=1", "--config", "gpus_per_job=2"], "GPUs available: 1"),
        ("", ["--config", "gpus_per_job=2"], "gpus_per_job is 2; GPUs available: 0"),
        ("0,1", ["--config", "nodes=2"], "nodes is 2; without Slurm there is 1"),
        ("", ["-j", "9", "--config", "nodes=2"], "there is 1; on a cluster, leave out --cores"),
        ("", ["-j", "9", "--config", "gpus_per_job=2"], "available: 0; on a cluster, leave out"),
    ],
)
def test_more_than_there_is(
    tmp_path: Path, monkeypatch, visible: str, arguments: list[str], expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected in dry_run(tmp_path, *arguments, fails=True)


@pytest.mark.parametrize(
    ("visible", "arguments", "threads", "launch"),
    [
        ("0,1", ["--cores", "8"], 4, "exec dsrl with-gpus 1 dsrl"),
        ("0,1", ["--cores", "8", "--config", "device=cpu"], 8, "exec dsrl"),
        ("", ["--cores", "8"], 8, "exec dsrl"),
        ("0,1", ["--cores", "8", "--jobs", "9"], 4, "exec dsrl with-gpus 1 dsrl"),
    ],
    ids=["two GPUs", "not to be used", "none", "jobs too"],
)
def test_how_a_training_is_started(
    tmp_path: Path, monkeypatch, visible: str, arguments: list[str], threads: int, launch: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    output = dry_run(tmp_path, *arguments, "--", STAGE_1)
    assert jobs(output)["train 1"] == 1
    job = output.split("rule train:")[1]
    assert f"threads: {threads}\n" in job
    assert f"launch={launch}, " in job


def test_a_cluster_assigns_gpus_itself(tmp_path: Path, monkeypatch) -> None:
    """Whatever the login node has. Without --cores, a dry run takes it to be 1."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    output = dry_run(
        tmp_path, "--cores", "1", "--jobs", "9", "--config", "gpus_per_job=4", "--", STAGE_1
    )
    job = output.split("rule train:")[1]
    assert "gpu=4, launch=exec torchrun --standalone --nproc-per-node 4 -m dsrl, " in job
