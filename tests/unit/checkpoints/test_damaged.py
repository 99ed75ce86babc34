"""Files that were cut, garbled or made to run code are refused in one line that names them."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrl.checkpoints.format import load
from dsrl.checkpoints.weights import save_weights
from dsrl.cli.main import main

KINDS = ("weights", "checkpoint")


@pytest.fixture(scope="module")
def contents(trained, make_weights, tmp_path_factory) -> dict[str, bytes]:
    """The bytes of a file of each kind."""
    path = tmp_path_factory.mktemp("whole") / "a.weights"
    save_weights(path, make_weights(1))
    checkpoint = next((trained[1] / "checkpoints").glob("*.checkpoint"))
    return {"weights": path.read_bytes(), "checkpoint": checkpoint.read_bytes()}


@pytest.fixture(scope="module")
def saved(contents, tmp_path_factory) -> dict[str, object]:
    """What these files hold."""
    folder = tmp_path_factory.mktemp("saved")
    for kind, content in contents.items():
        (folder / kind).write_bytes(content)
    return {kind: load(folder / kind, kind) for kind in KINDS}


def same(found: object, expected: object) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)  # type: ignore[attr-defined]
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))  # type: ignore[arg-type]
    return found == expected or (found != found and expected != expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_any_byte(contents, tmp_path, kind):
    content, path = contents[kind], tmp_path / f"cut.{kind}"
    size = len(content)
    ends = (1, 2, 4, 21, 22, 23, 64, 100)  # a zip file's directory ends with 22 bytes
    places = {*ends, *(size - end for end in ends), *range(0, size, size // 16)}
    for place in sorted(places):
        path.write_bytes(content[:place])
        with pytest.raises(ValueError, match="truncated, damaged or not a PyTorch file") as caught:
            load(path, kind)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_flipped_bit_is_noticed_or_does_not_matter(contents, saved, tmp_path, kind, data):
    """What loads is what was saved: PyTorch alone would not look at the checksums."""
    content, path = bytearray(contents[kind]), tmp_path / f"flipped.{kind}"
    size = len(content)
    area = data.draw(
        st.sampled_from([(0, size), (0, 4000), (size - 8000, size), (size - 60, size)])
    )
    place = data.draw(st.integers(area[0], area[1] - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = load(path, kind)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert same(found, saved[kind])


def test_a_flipped_bit_of_a_layer_is_told(contents, tmp_path):
    """In the middle of the largest layer, where nothing but a checksum can tell."""
    layers = torch.load(write(tmp_path, contents["weights"]), weights_only=True)["state_dict"]
    largest = max(layers.values(), key=torch.numel).contiguous().numpy().tobytes()
    content = bytearray(contents["weights"])
    content[content.index(largest) + len(largest) // 2] ^= 1
    with pytest.raises(ValueError, match=r"a\.weights: damaged: wrong checksum of archive/data/"):
        load(write(tmp_path, bytes(content)), "weights")


def write(folder: Path, content: bytes) -> Path:
    path = folder / "a.weights"
    path.write_bytes(content)
    return path


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# Every command that reads such a file; FILE stands for it.
READERS = [
    "inspect-checkpoint --checkpoint FILE",
    "inspect-checkpoint --json --checkpoint FILE",
    "edit-checkpoint --key a --value b --checkpoint FILE",
    "resume-train --checkpoint FILE",
    "prune-weights --dest-weights out --src-weights FILE",
    "print-model --weights FILE",
    "benchmark --device cpu --data data --weights FILE",
    "benchmark --device cpu --weights FILE",
    "plot-examples --device cpu --output out.png --data data FILE",
    "test --device cpu --image-file image.png --weights FILE",
    "predict --device cpu --output out --weights FILE",
    "export --output out.pt2 --weights FILE",
    "train --stage 1 --device cpu --data data --input-size 32 64 --output out --init-weights FILE",
    "train --stage 2 --device cpu --data data --input-size 32 64 --output out --init-weights FILE",
]


# Every kind of file at one command, and one of them at every command.
FILES = [(READERS[0], suffix, zipped) for suffix in (*KINDS, "cpkt") for zipped in (True, False)]


@pytest.mark.parametrize(
    ("reader", "suffix", "zipped"),
    [*FILES, *((reader, "weights", True) for reader in READERS[1:])],
)
def test_code_in_a_file_is_not_run(prepared, dsrl, tmp_path, monkeypatch, reader, suffix, zipped):
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(prepared)
    path, executed = Path(f"hostile.{suffix}"), Path("executed")
    kind = suffix if suffix in KINDS else None
    content = {"kind": kind, "format": 1, "state_dict": {}, "x": Hostile(executed)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    code, _, err = dsrl(*reader.replace("FILE", str(path)).split())
    assert code == 1 and err.startswith(f"dsrl {reader.split()[0]}: {path}: ")
    assert "could run code, so it was not opened" in err
    assert {p.name for p in tmp_path.iterdir()} == {"data", path.name}
    # the file is as hostile as it looks
    torch.load(path, weights_only=False) if zipped else pickle.loads(path.read_bytes())
    assert executed.exists()


def test_code_in_prepared_arrays_is_not_run(prepared, tmp_path):
    executed = tmp_path / "executed"
    shutil.copytree(prepared, tmp_path / "data")
    array = tmp_path / "data" / "train" / "labels.npy"
    np.save(array, np.array([Hostile(executed)], dtype=object), allow_pickle=True)
    with pytest.raises(SystemExit, match=r"labels\.npy: damaged: .*prepare the split again"):
        main(["train", "--stage", "1", "--data", str(tmp_path / "data"), "--device", "cpu",
              "--output", str(tmp_path / "out")])  # fmt: skip
    assert not executed.exists()
    np.load(array, allow_pickle=True)
    assert executed.exists()
