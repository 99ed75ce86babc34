"""What `sitecustomize.py` has recorded of the trainings of a workflow."""

import json
import os
from itertools import combinations
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """One process of a training."""

    stage: int
    begin: float
    end: float
    devices: frozenset[tuple[str, str]]  # node, number
    variables: dict[str, str]


def recorded(file: Path) -> dict[str, str]:
    """The environment in which Python records trainings to `file`."""
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "DSRL_RECORD": str(file)}


def runs(file: Path) -> list[Run]:
    """The trainings that have ended, in the order of their beginnings."""
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    ends = {entry["pid"]: entry["time"] for entry in entries if entry["event"] == "end"}
    found = []
    for entry in entries:
        if entry["event"] == "begin" and entry["pid"] in ends:
            numbers = (entry["CUDA_VISIBLE_DEVICES"] or "").split(",")
            devices = frozenset((entry["SLURMD_NODENAME"] or "", n) for n in numbers if n)
            found.append(
                Run(int(entry["stage"]), entry["time"], ends[entry["pid"]], devices, entry)
            )
    return found


def at_once(found: list[Run]) -> list[tuple[Run, Run]]:
    """The pairs that ran at the same time."""
    return [(a, b) for a, b in combinations(found, 2) if a.begin < b.end and b.begin < a.end]
