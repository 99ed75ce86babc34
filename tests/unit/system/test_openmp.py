"""How long OpenMP threads spin, by what GNU's library itself says when PyTorch loads it."""

import os
import re
import subprocess
import sys

import pytest

from dsrl.system.openmp import SPIN_COUNT

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("user", "spin_count"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
    ],
)
def test_a_dsrl_process_spins_briefly_unless_the_user_says_otherwise(tmp_path, user, spin_count):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        # It imports PyTorch, and finds no file.
        [sys.executable, "-m", "dsrl", "inspect-checkpoint", "--checkpoint", "absent"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", **user},
        timeout=120,
    )
    assert "absent: no such file" in done.stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if not found:
        pytest.skip("PyTorch's OpenMP is not GNU's")
    assert set(found) == {spin_count}
