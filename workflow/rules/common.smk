"""The validated config, and the functions that find a rule's input."""

import hashlib
import itertools
import json
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from dsrl.config.encoder_weights import encoder_file, known_weights, missing_encoder_message
from dsrl.config.recipe import STAGES
from dsrl.config.settings import read_runs
from dsrl.data.archives import missing_archive_message
from dsrl.data.description import load_description
from dsrl.data.images import is_clutter
from dsrl.data.manifest import overlap, read_manifest
from dsrl.system.kept import keep

stop = sys.exit  # with one line; Snakemake would print an exception with its place in the rules

try:
    RUNS = read_runs(config, file=next(reversed(workflow.overwrite_configfiles), None))
    SETTINGS = next(iter(RUNS.values()))  # for what all runs have in common
    DATASETS = {}
    for source in {run.data.dataset for run in RUNS.values()}:
        description = load_description(source)
        if description.name in DATASETS:
            raise ValueError(
                f"{source} and {DATASETS[description.name][0]} are both named '{description.name}'"
            )
        for split in SETTINGS.benchmark.splits:
            if split not in description.splits:
                raise ValueError(f"benchmark.splits: {source} has no split '{split}'")
        DATASETS[description.name] = (source, description)
except OSError as error:
    stop(f"{error.filename}: {error.strerror}, named by the config")
except ValueError as error:
    stop(str(error))

NAMES = {source: name for name, (source, _) in DATASETS.items()}
EXPERIMENTS = list(dict.fromkeys(run.experiment for run in RUNS.values()))
SPLITS = SETTINGS.benchmark.splits
# Trained encoders that are not there yet: the file's name -> that of the weights.
ENCODERS = {
    encoder_file(run.model).name: name
    for run in RUNS.values()
    if (name := known_weights(run.model)) and not encoder_file(run.model).is_file()
}
SETTINGS_FILES = {}  # path -> content, which `rule settings` writes

# Finds `dsrl` even if the environment is not activated. An image has its own.
if DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
    shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


wildcard_constraints:
    stage="|".join(map(str, STAGES)),
    split="train|val|test",
    experiment="|".join(map(re.escape, EXPERIMENTS)),
    run="|".join(map(re.escape, RUNS)),
    dataset="|".join(map(re.escape, DATASETS)),
    height=r"\d+",
    width=r"\d+",
    fit="(-pad)?",


def missing(dataset):
    """The archives of a data set that are not there, and that nothing draws or downloads."""
    made = dataset.archives if dataset.name == "demo" else dataset.downloads
    return [
        archive
        for archive in dataset.archives
        if archive not in made and not Path("data/archives", archive).is_file()
    ]


def is_given(dataset):
    """Whether the unpacked files of a data set are the user's, so that nothing may replace them: a
    `folder`, or what is in `data/raw` and was not made there, or cannot be made again."""
    raw = dataset.raw
    if dataset.folder or raw.is_symlink() or raw.is_file():
        return True
    # Snakemake writes this file into each folder that a rule has made.
    made = (raw / ".snakemake_timestamp").exists() and not missing(dataset)
    found = raw.iterdir() if raw.is_dir() else ()
    return not made and any(not is_clutter(Path(path.name)) for path in found)


GIVEN = {name for name, (_, dataset) in DATASETS.items() if is_given(dataset)}
UNPACKED = DATASETS.keys() - GIVEN

for dataset in [DATASETS[name][1] for name in GIVEN if workflow.is_main_process]:
    if dataset.archives and not missing(dataset):
        logger.warning(
            f"{dataset.raw} was not made by this workflow and is used as it is; remove it to unpack "
            + ", ".join(dataset.archives)
        )


def archives(wildcards):
    """The archives of a data set. Those that cannot be drawn or downloaded must exist."""
    _, dataset = DATASETS[wildcards.dataset]
    for archive in missing(dataset):
        stop(missing_archive_message(dataset, archive, Path("data/archives")))
    return [f"data/archives/{archive}" for archive in dataset.archives]


def raw(wildcards):
    """The folder with the unpacked files of a data set."""
    _, dataset = DATASETS[wildcards.dataset]
    if wildcards.dataset in GIVEN and not dataset.raw.is_dir():
        stop(f"{dataset.raw}: no such folder; the data set '{dataset.name}' should be there")
    return dataset.raw


def list_file(wildcards):
    """The file that lists the samples of a split, where it does not come from an archive."""
    _, dataset = DATASETS[wildcards.dataset]
    patterns = dataset.splits.get(wildcards.split)
    path = patterns and patterns.list_file(dataset.raw)
    unpacked = path and wildcards.dataset in UNPACKED and dataset.raw in path.parents
    return path if path and path.is_file() and not unpacked else []


@cache
def warn_of_overlap(first, second):
    """Warn once if two prepared splits have images in common."""
    if first != second and Path(first).exists() and Path(second).exists():
        splits = [read_manifest(Path(manifest).parent) for manifest in (first, second)]
        if warning := overlap(*splits):
            logger.warning(f"{Path(second).parent}: {warning}")


def prepared(split, file="manifest.json"):
    """A file of a split, at the size that a run needs."""

    def path(wildcards):
        data = RUNS[wildcards.run].data
        return "data/prepared/{}{}/{}/{}".format(
            NAMES[data.dataset],
            data.folder_suffix,
            split.format(**wildcards),
            file,
        )

    return path


def arrays(*splits):
    """The arrays of splits. Their age does not matter: the manifest, which contains their
    checksums, shows whether they have changed."""

    def paths(wildcards):
        found = []
        for split in dict.fromkeys(split.format(**wildcards) for split in splits):
            native = [] if split == "train" else ["native_labels.npy"]
            for file in ["images.npy", "labels.npy", *native]:
                found.append(ancient(prepared(split, file)(wildcards)))
        return found

    return paths


def recipe(wildcards):
    """How a stage of a run is trained."""
    return RUNS[wildcards.run].recipe(int(wildcards.stage))


def settings_path(folder, name, content):
    """Where the settings `name`, a JSON text, are stored below `folder`."""
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{folder}/settings/{name}.{fingerprint}.json"


def settings_file(folder, name, content):
    """The file with the settings `name`, a JSON text, below `folder`."""
    path = settings_path(folder, name, content)
    SETTINGS_FILES[path] = content
    # Snakemake makes a missing input only for an output that it has to make anyway, or whose former
    # input it remembers. In a copied project, without its records, old results would stand.
    if not Path(path).exists():
        workflow.dag.forcefiles.add(path)
    return path


def recipe_text(run, stage):
    """The settings of a training, as a config that `dsrl train` reads."""
    return RUNS[run].recipe(int(stage)).model_dump_json(exclude={"stage"})


def recipe_file(run, stage):
    """The file with `recipe_text`."""
    return settings_file(f"results/{run}", f"stage{stage}", recipe_text(run, stage))


def description_file(dataset):
    """What a prepared data set depends on: patterns, labels and the range of values."""
    _, description = DATASETS[dataset]
    keys = {"splits", "labels", "value_range"}
    content = description.model_dump_json(include=keys, exclude_none=True)
    return settings_file("data", f"description_{dataset}", content)


def demo_file(wildcards):
    """The settings of the drawn data set, as a config."""
    content = json.dumps({"demo": SETTINGS.demo.model_dump()})
    return settings_file("data", "demo", content)


def initial_weights(wildcards):
    """What a stage starts from: the final weights of the stage before, a trained encoder, or
    none."""
    stage, run = int(wildcards.stage), RUNS[wildcards.run]
    if not run.starts_from_encoder(stage):
        return f"results/{wildcards.run}/stage{stage - 1}/final.weights"
    path = encoder_file(run.model)
    there = path is None or path.name in ENCODERS or path.is_file()
    if not there and workflow.is_main_process:
        stop(missing_encoder_message(run.model, path))
    return [] if path is None else str(path)


def labels(wildcards, input):
    """Texts stored in the files of a training; changing them does not retrain."""
    run = RUNS[wildcards.run]
    name = run.experiment_id or wildcards.run
    return [f"--experiment-id={name}", f"--description={run.description}"]


def benchmarked_weights(wildcards):
    """The pruned weights of the last stage, as deployed; the final weights of the others."""
    if int(wildcards.stage) == RUNS[wildcards.run].last_stage:
        return "results/{run}/inference.weights"
    return "results/{run}/stage{stage}/final.weights"


def scores(wildcards):
    """The scores of one experiment, or of all, in row order of the table."""
    return [
        f"results/{name}/stage{stage}/benchmark-{split}.csv"
        for name, run in RUNS.items()
        if wildcards.get("experiment", run.experiment) == run.experiment
        for split in SPLITS
        for stage in stages(name)
    ]
