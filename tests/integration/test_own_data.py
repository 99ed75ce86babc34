"""Data sets of users in the workflow: in archives, in a folder, behind a link."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from pipeline import STAGE_1, dry_run, jobs, snakemake
from raw_data import describe, write_split
from shared import snapshot

PREPARED = [f"data/prepared/own-64x128/{split}/manifest.json" for split in ("train", "val")]
DATA = ("--config", "dataset=own.yaml")
ONCE = {"settings": 1, "preprocess": 1, "preprocess_train": 1}


def write(place: Path, /, **changes: object) -> None:
    values = json.loads(describe().model_dump_json(exclude_none=True))
    values = {key: value for key, value in {**values, **changes}.items() if value is not None}
    (place / "own.yaml").write_text(json.dumps(values))


def told(folder: Path, *arguments: str) -> str:
    """The line in which a run fails, with nothing but Snakemake's header before it."""
    output = dry_run(folder, *arguments, fails=True).strip()
    line = re.split("Building DAG of jobs...\n|default command line arguments.\n", output)[-1]
    assert "\n" not in line, line
    return line


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked data set; its train and val have no image in common."""
    folder = tmp_path_factory.mktemp("users") / "my streets"
    for split in ("train", "val"):
        write_split(folder, split, 3)
    return folder


def place(folder: Path, streets: Path, how: str) -> Path:
    """Give a data set to the workflow; returns the folder that it must not change."""
    raw = folder / "data/raw/own"
    raw.parent.mkdir(parents=True)
    if how == "folder":
        write(folder, archives=None, folder=str(streets))
        return streets
    write(folder)
    if how == "link":
        raw.symlink_to(streets)
        return streets
    shutil.copytree(streets, raw)
    if how == "archive too":
        (folder / "data/archives").mkdir()
        with zipfile.ZipFile(folder / "data/archives/own.zip", "w") as archive:
            archive.writestr("train/x.png", b"newer than the folder")
    if how == "archive gone":
        (raw / ".snakemake_timestamp").touch()
    return raw


@pytest.mark.parametrize("how", ["folder", "link", "copy", "archive too", "archive gone"])
def test_unpacked_files_are_used_as_they_are(tmp_path: Path, streets: Path, how: str) -> None:
    place(tmp_path, streets, how)
    output = dry_run(tmp_path, "--forceall", *DATA, "--", *PREPARED)
    assert jobs(output) == ONCE
    assert ("remove it to unpack own.zip" in output) == (how == "archive too")


def test_a_users_folder_is_not_changed_and_shared_images_are_warned_of(
    tmp_path: Path, streets: Path
) -> None:
    splits = describe().model_dump(exclude_none=True)["splits"]
    place(tmp_path, streets, "link")
    write(tmp_path, splits={"train": splits["train"], "val": splits["train"]})
    before = snapshot(streets)
    snakemake(tmp_path, "--forceall", *DATA, "--", *PREPARED)
    assert snapshot(streets) == before
    assert (tmp_path / "data/raw/own").readlink() == streets
    warning = "warning: 3 of the 3 images of 'val' are also in 'train'"
    for target in ([], ["--", STAGE_1]):
        assert dry_run(tmp_path, *DATA, *target).count(warning) == 1
    logs = [path.read_text() for path in (tmp_path / "logs").glob("preprocess_*.log")]
    assert sum(log.count(warning) for log in logs) >= 1


def test_a_changed_list_is_noticed(tmp_path: Path, streets: Path) -> None:
    """One outside of the archive, which the pipeline does not unpack."""
    splits = describe().model_dump(exclude_none=True)["splits"]
    place(tmp_path, streets, "folder")
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("000\n001\n")
    splits["train"]["list"] = "./chosen.txt"
    write(tmp_path, archives=None, folder=str(streets), splits=splits)
    snakemake(tmp_path, *DATA, "--", PREPARED[0])
    assert jobs(dry_run(tmp_path, *DATA, "--", PREPARED[0])) == {}
    chosen.write_text("000\n002\n")
    assert jobs(dry_run(tmp_path, *DATA, "--", PREPARED[0])) == {"preprocess_train": 1}


def test_what_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    line = told(tmp_path, "--config", "dataset=cityscapes")
    assert line.startswith("data/archives/leftImg8bit_trainvaltest.zip is missing, an archive of")
    assert "https://www.cityscapes-dataset.com" in line and "`folder:`" in line
    write(tmp_path, archives=["sub/own.tar"])
    assert told(tmp_path, *DATA).startswith("data/archives/sub/own.tar is missing")
    write(tmp_path, archives=None, folder="nowhere")
    assert told(tmp_path, *DATA).startswith("nowhere: no such folder; the data set 'own' should")
    splits = json.loads(describe().model_dump_json(exclude_none=True))["splits"]
    del splits["test"]
    write(tmp_path, archives=None, folder=str(tmp_path), splits=splits)
    line = told(tmp_path, *DATA, "splits=[val,test]")
    assert line == "benchmark.splits: own.yaml has no split 'test'"
    write(tmp_path, lables=[])
    assert told(tmp_path, *DATA).startswith("own.yaml: unknown key 'lables'; did you mean 'labels'")


def test_a_folder_among_the_archives(tmp_path: Path) -> None:
    write(tmp_path, archives=["own"])
    (tmp_path / "data/archives/own").mkdir(parents=True)
    assert "write `folder: data/archives/own` in place of `archives:`" in told(tmp_path, *DATA)


def test_what_is_no_folder_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/archives").mkdir()
    (tmp_path / "data/archives/own.zip").touch()
    for make in (Path.touch, lambda path: path.symlink_to("/nowhere")):
        make(tmp_path / "data/raw/own")
        assert "data/raw/own: no such folder" in dry_run(tmp_path, *DATA, fails=True)
        (tmp_path / "data/raw/own").unlink()
