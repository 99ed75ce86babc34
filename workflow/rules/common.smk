"""The validated config, and the functions that find a rule's input."""

import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dsrl.config import STAGES, read_settings
from dsrl.data.archives import missing_archive_message
from dsrl.data.labels import load_description

try:
    SETTINGS = read_settings(config)
    DATASET = load_description(SETTINGS.data.dataset)
except (OSError, ValueError) as error:
    raise WorkflowError(str(error)) from None

EXPERIMENTS = [SETTINGS.experiment]
SPLITS = SETTINGS.benchmark.splits

# So that `dsrl` is found also where the environment is not activated.
shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


wildcard_constraints:
    stage="|".join(map(str, STAGES)),
    split="train|val|test",
    experiment="|".join(EXPERIMENTS),
    dataset=DATASET.name,


def archives(wildcards):
    """The archives of the data set; those that cannot be made or fetched must be there."""
    paths = [f"data/archives/{archive}" for archive in DATASET.archives]
    for path in paths:
        made = DATASET.name == "demo" or Path(path).name in DATASET.urls
        if not made and not Path(path).exists():
            raise WorkflowError(
                missing_archive_message(DATASET, Path(path).name, Path("data/archives"))
            )
    return paths


def prepared(split):
    """The manifest of a prepared split; the arrays lie beside it."""
    return "data/prepared/{}-{}x{}/{}/manifest.json".format(
        DATASET.name, *SETTINGS.data.stored_size, split
    )


def previous_weights(wildcards):
    """What a stage starts from: the final weights of the stage before, or nothing."""
    stage = int(wildcards.stage)
    if stage == STAGES[0] or SETTINGS.training_of(stage).init == "encoder":
        return []
    return f"results/{wildcards.experiment}/stage{stage - 1}/final.weights"


def stage_settings(wildcards):
    """What the weights of a stage depend on, as a config in braces."""
    return json.dumps(SETTINGS.for_stage(int(wildcards.stage)))


def benchmarked_weights(wildcards):
    """The last stage is scored as it is deployed, pruned; the others by their final weights."""
    if int(wildcards.stage) == STAGES[-1]:
        return "results/{experiment}/inference.weights"
    return "results/{experiment}/stage{stage}/final.weights"
