"""The demo through a real Slurm: to the table, cancelled and resumed, with devices of their own."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import cluster, what_is_missing
from recording import at_once, recorded, runs

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/integration/config.yaml"

missing = what_is_missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing is not None, reason=str(missing)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workflow runs. Slurm's programs see it at the same place."""
    return tmp_path_factory.mktemp("on slurm")


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[dict[str, str]]:
    with cluster() as found:
        yield {**recorded(folder / "record"), "SLURM_CONF": found["SLURM_CONF"]}


def command(folder: Path, *arguments: str) -> list[str]:
    """As the README has it, but in a hurry, and with status queries that need no database."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--workflow-profile", str(ROOT / "workflow/profiles/slurm")),
        *("--directory", str(folder), "--configfile", str(CONFIG), "--latency-wait", "10"),
        *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
        *arguments,
    ]


def run(line: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output; a hang is none."""
    done = subprocess.run(
        ["timeout", "-k", "10", "600", *line],
        env=environment, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def cancel_training(stage: int, folder: Path, environment: dict[str, str]) -> None:
    """scancel the job of a stage as soon as it has a checkpoint."""
    checkpoints = folder / f"results/tiny/stage{stage}/checkpoints"
    deadline = time.monotonic() + 300
    while not any(checkpoints.glob("epoch*.checkpoint")):
        assert time.monotonic() < deadline, f"stage {stage} has no checkpoint"
        time.sleep(0.1)
    queue = subprocess.run(
        ["squeue", "--noheader", "--format=%i %k"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    jobs = [line.split()[0] for line in queue.splitlines() if re.search(rf"train.*{stage}$", line)]
    assert len(jobs) == 1, queue
    subprocess.run(["scancel", *jobs], env=environment, check=True)


# The stages do not wait for one another, and are long enough to be cancelled.
SETTINGS = ("--config", "init=encoder", "epochs=30", "num_workers=1")


@pytest.fixture(scope="module")
def cancelled(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of a run whose second stage was cancelled while all three trained."""
    line = command(folder, *SETTINGS, "--retries", "0", "--keep-going")
    running = subprocess.Popen(
        ["timeout", "-k", "10", "600", *line],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip
    cancel_training(2, folder, environment)
    output, _ = running.communicate()
    return running.returncode, output


@pytest.fixture(scope="module")
def repeated(cancelled: object, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The same of the call that was repeated then."""
    return run(command(folder, *SETTINGS), environment)


def test_cancelled_training_is_told(cancelled: tuple[int, str]) -> None:
    code, output = cancelled
    assert code != 0, output
    # Its log is in the message, and says that SIGTERM came to the training itself.
    assert "dsrl train: stopped by SIGTERM; repeat the call to resume from" in output, output
    # And Snakemake has waited for it, so that Slurm did not take the job for done before.
    assert "returned non-zero exit status 75" in output, output


def test_cancelled_training_goes_on(repeated: tuple[int, str], folder: Path) -> None:
    code, output = repeated
    assert code == 0, output
    assert "Resumed after epoch" in (folder / "logs/tiny/train_stage2.log").read_text()
    # The other stages had gone on and are not repeated.
    assert output.count("rule train:") == 1, output
    table = (folder / "results/benchmark.txt").read_text()
    rows = [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| SSSR")]
    assert rows == ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]


def test_jobs_had_devices_and_cores_of_their_own(repeated: tuple[int, str], folder: Path) -> None:
    found = runs(folder / "record")
    assert sorted(run.stage for run in found) == [1, 2, 2, 3], repeated
    assert all(len(run.devices) == 1 for run in found)
    assert at_once(found), "no two trainings ran at the same time"
    assert not [pair for pair in at_once(found) if pair[0].devices & pair[1].devices]
    # One for the training of each GPU, and one for its loader.
    assert {run.variables["OMP_NUM_THREADS"] for run in found} == {"2"}


def test_training_on_two_nodes(folder: Path, environment: dict[str, str]) -> None:
    """One training, of a process on each node."""
    record = folder / "record of two nodes"
    settings = (
        "--config",
        "init=encoder",
        "seed=1",
        "nodes=2",
        "device=cpu",
        "--set-threads",
        "train=1",
    )
    line = command(folder, *settings, "--", "results/tiny/stage1/final.weights")
    code, output = run(line, {**environment, "DSRL_RECORD": str(record)})
    assert code == 0, output
    variables = [run.variables for run in runs(record)]
    assert {(v["SLURMD_NODENAME"], v["WORLD_SIZE"]) for v in variables} == {
        ("n1", "2"),
        ("n2", "2"),
    }
    assert {v["RANK"] for v in variables} == {"0", "1"}
