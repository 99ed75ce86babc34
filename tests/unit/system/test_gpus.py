"""GPUs are counted as CUDA counts them, and belong to one program at a time."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsrl.system.gpus import CLAIM, keep_claim, visible_gpus

# Prints its devices, and keeps them until its input ends.
HOLD = [
    sys.executable,
    "-c",
    "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()",
]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("0,1", ["0", "1"]),
        ("3", ["3"]),
        (" 2, 0", ["2", "0"]),
        ("GPU-8932f937,MIG-1f2e", ["GPU-8932f937", "MIG-1f2e"]),
        ("0,-1,1", ["0"]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_variable_says_what_is_visible(monkeypatch, variable: str, expected: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == expected


def test_else_nvidia_smi_does(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: a)'\necho 'GPU 1: A100 (UUID: b)'")
    program.chmod(0o755)
    assert visible_gpus() == ["0", "1"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2", "TMPDIR": str(tmp_path)}


def hold(count: int, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A program that has claimed so many GPUs, or waits for them."""
    return subprocess.Popen(
        [sys.executable, "-m", "dsrl", "with-gpus", str(count), *HOLD],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def devices(program: subprocess.Popen[str]) -> list[str]:
    assert program.stdout is not None
    return program.stdout.readline().strip().split(",")


def test_programs_share_no_gpu_and_wait_for_one(environment: dict[str, str]) -> None:
    first, second = hold(1, environment), hold(2, environment)
    taken = [devices(first), devices(second)]
    assert sorted(taken[0] + taken[1]) == ["0", "1", "2"]
    third = hold(1, environment)
    time.sleep(1.5)
    os.kill(first.pid, signal.SIGKILL)  # has no chance to give anything back
    first.wait()
    assert devices(third) == taken[0]
    for program in (second, third):
        program.communicate()
        assert program.returncode != 0  # of the program itself: it has come to the end of its input


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_claim_lasts_until_the_last_process_that_it_was_made_for_ends(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """As torchrun does, a launcher starts `dsrl` with no open files of its own, and is killed."""
    (tmp_path / "a.weights").touch()
    launcher = "import subprocess, sys; subprocess.run(sys.argv[1:], start_new_session=True)"
    asks = [sys.executable, "-m", "dsrl", "purge", str(tmp_path)]
    program = subprocess.Popen(
        [sys.executable, "-m", "dsrl", "with-gpus", "2", sys.executable, "-c", launcher, *asks],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None
    while (told := program.stdout.read(1)) != "?":
        assert told, "it has asked nothing"
    locks = [tmp_path / f"dsrl-gpu-machine-{gpu}.lock" for gpu in range(3)]
    for lock in locks:
        lock.touch()
    assert [is_free(lock) for lock in locks] == [False, False, True]
    program.kill()
    program.wait()
    assert [is_free(lock) for lock in locks] == [False, False, True]
    program.stdin.write("n\n")
    program.stdin.close()
    program.stdout.read()  # until `dsrl purge` ends
    deadline = time.monotonic() + 10
    while not all(map(is_free, locks)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_claim_of_another_machine_is_no_matter(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CLAIM, str(tmp_path / "absent.lock"))
    keep_claim()


def test_more_than_there_are(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dsrl", "with-gpus", "4", *HOLD],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "dsrl with-gpus: requested 4 GPUs, 3 visible\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["1"], 2, "expected a program to run"),
        (["0", "true"], 2, "expected an integer >= 1, got '0'"),
        (["many", "true"], 2, "expected an integer >= 1, got 'many'"),
        (["1", "absent-program"], 1, "absent-program: no such program"),
    ],
)
def test_wrong_usage_is_reported(environment, arguments, code, message) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dsrl", "with-gpus", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert message in done.stderr
