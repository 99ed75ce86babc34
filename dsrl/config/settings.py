"""The settings of a run, typed: one source of defaults, messages, JSON schema and documentation.

A config file is a YAML mapping of the sections in `sections.py` and `model.py`; whatever it leaves
out has its default. This module is read at every start of Snakemake and of `dsrl`, so it imports no
torch.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dsrl.config.encoder_weights import check_weights
from dsrl.config.encoders import check_encoder
from dsrl.config.model import Model
from dsrl.config.recipe import STAGES, Recipe, Stage
from dsrl.config.sections import (
    Augmentation,
    Benchmark,
    Data,
    Demo,
    Loss,
    Report,
    Resources,
    Training,
)
from dsrl.config.strict import Strict, parse, parse_yaml, read_yaml

# What all experiments of a config have in common.
SHARED = frozenset(("experiment", "track_code", "demo", "benchmark", "report", "resources"))

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME)]  # of a folder
Seed = Annotated[int, Field(ge=0)]


class Settings(Strict):
    """The settings of one run."""

    experiment: Name | None = Field(
        None,
        description="name of the folder in `results/`; default: the name of the config file, or, "
        "without `--configfile`, of the data set",
    )
    experiment_id: str = Field(
        "", description="text that identifies the run; kept in its files and in TensorBoard"
    )
    description: str = Field(
        "", description="text about the run; kept in its files and in TensorBoard"
    )
    seed: Seed = Field(0, description="seed of the weights, data order and augmentation")
    last_stage: Stage = Field(
        3, description="the last stage that is trained: 1 trains SSSR alone, as for a base network"
    )
    track_code: bool = Field(
        False,
        description="compute again what depends on changed code; comments and layout do not count",
    )
    data: Data = Data()
    demo: Demo = Demo()
    model: Model = Model()
    training: Training = Training()
    stages: dict[Stage, dict[str, Any]] = Field(
        {}, description="keys of `training` for one stage, as in `stages: {3: {epochs: 5}}`"
    )
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    benchmark: Benchmark = Benchmark()
    report: Report = Report()
    resources: Resources = Resources()

    @classmethod
    def known_keys(cls) -> list[str]:
        """At the top level of a config a setting may stand without its section."""
        return [*Config.model_fields, *section_of()]

    @model_validator(mode="after")
    def _stages_override_training(self) -> Self:
        for stage in self.stages:
            self._training(stage)
        return self

    # Not in `Model`, so that a file is read whatever timm is installed.
    @model_validator(mode="after")
    def _encoder_exists(self) -> Self:
        if self.model.network == "deeplabv3plus":
            check_encoder(self.model.encoder, self.model.output_stride)
        check_weights(self.model)
        return self

    def _training(self, stage: Stage) -> Training:
        """The `training` section with the overrides of `stage`."""
        overrides = self.stages.get(stage, {})
        sections = section_of()
        for key in (overrides.keys() & sections.keys()) - Training.model_fields.keys():
            raise ValueError(
                f"stages.{stage}: '{key}' is a setting of {sections[key]}; stages can change those "
                "of training only"
            )
        values = {**self.training.model_dump(), **overrides}
        return parse(Training, values, f"stages.{stage}")

    def starts_from_encoder(self, stage: Stage) -> bool:
        """Whether `stage` starts from the encoder, and not from the stage before."""
        return stage == STAGES[0] or self._training(stage).init == "encoder"

    def recipe(self, stage: Stage) -> Recipe:
        """How `stage` is trained. Of the encoder's weights it has only whether it starts from any,
        as `pretrained`, and whether its decoder does."""
        training = self._training(stage)
        starts = self.starts_from_encoder(stage) and self.model.initial != "none"
        model = self.model.model_copy(
            update={
                "encoder_weights": "none",
                "pretrained": starts,
                "pretrained_decoder": starts and self.model.pretrained_decoder,
            }
        )
        return Recipe(
            stage=stage,
            seed=self.seed,
            input_size=self.data.input_size,
            fit=self.data.fit,
            model=model,
            training=training,
            loss=self.loss,
            augmentation=self.augmentation,
        )


class Variants(Strict):
    """The keys of a config that make several runs of it."""

    seeds: tuple[Seed, ...] = Field(
        (),
        description="run every experiment once with each of these seeds, as in `seeds: [0, 1, 2]`; "
        "the table then shows mean ± standard deviation. Default: once, with `seed`",
    )
    experiments: dict[Name, dict[str, Any]] = Field(
        {},
        description="several experiments, each a name and what it changes in this config, as in "
        "`experiments: {small: {input_size: [64, 128]}, plain: {w1: 0, w2: 0}}`. Default: "
        "one, named by `experiment`",
    )

    @model_validator(mode="after")
    def _no_seed_twice(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} contains duplicates")
        return self


class Config(Variants, Settings):
    """A config file."""


def read_settings(source: str | Mapping[str, Any] | None, name: str = "config") -> Settings:
    """Read the settings of a single run from a YAML file, from an inline mapping such as
    '{training: {epochs: 2}}', or from a mapping; None gives the defaults.

    A setting may stand at the top level without its section (`w2: 0.5`), which keeps
    `snakemake --config w2=0.5` short.

    Raises:
        OSError: the file cannot be read.
        ValueError: one line that names the source and the key at fault; or it has `experiments`.
    """
    values, name = _read(source, name)
    values, variants = _split(values, name)
    if variants.experiments:
        raise ValueError(f"{name}: has several experiments; use a config without `experiments`")
    return parse(Settings, values, name)


def read_runs(
    source: str | Mapping[str, Any] | None, name: str = "config", file: Path | None = None
) -> dict[str, Settings]:
    """Read the settings of each run of the workflow, by its folder in `results/`: that of an
    experiment, `demo`, or of one of its seeds, `demo/seed0`.

    Args:
        file: the last config file that they come from, which names an experiment without a name.

    Raises:
        OSError, ValueError: see `read_settings`; or an experiment changes what is the same for all.
    """
    values, name = _read(source, name)
    values, variants = _split(values, name)
    base = parse(Settings, values, name)
    experiments = variants.experiments or {base.experiment or _name_of(base, file, name): {}}
    return {
        folder: parse(Settings, run, f"{name}: experiments.{run['experiment']}")
        for experiment, changes in experiments.items()
        for folder, run in _expand(values, experiment, changes, variants.seeds, name)
    }


def _name_of(settings: Settings, file: Path | None, name: str) -> str:
    """The name of an experiment that has none in its config."""
    stem = Path(file or settings.data.dataset).stem
    if re.fullmatch(NAME, stem) is None:
        raise ValueError(
            f"{file or name}: the name '{stem}' cannot be that of a folder in results/, which has "
            "only letters, digits, - and _; set experiment: NAME"
        )
    return stem


def _expand(
    values: Mapping[str, Any],
    experiment: str,
    changes: Mapping[str, Any],
    seeds: tuple[int, ...],
    name: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config of each seed of an experiment, and its folder."""
    changes = _into_sections(changes)
    where = f"{name}: experiments.{experiment}"
    if shared := sorted(changes.keys() & (SHARED | Variants.model_fields.keys())):
        raise ValueError(
            f"{where}: '{shared[0]}' is the same for all experiments; change it at the top level"
        )
    if seeds and "seed" in changes:
        raise ValueError(
            f"{where}: has a 'seed', and 'seeds' at the top level gives all experiments the same; "
            "remove one of them"
        )
    run = {**values, **changes, "experiment": experiment}
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping):
            run[key] = {**values[key], **change}
    if not seeds:
        yield experiment, run
    for seed in seeds:
        yield f"{experiment}/seed{seed}", {**run, "seed": seed}


def _read(source: str | Mapping[str, Any] | None, name: str) -> tuple[Mapping[str, Any], str]:
    """The mapping that a config consists of, and how messages name it."""
    values: Any = source or {}
    if isinstance(source, str):
        inline = source.lstrip().startswith("{")
        name = "config" if inline else source
        values = (parse_yaml(source, name) if inline else read_yaml(Path(source))) or {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: expected a mapping of sections, got {values!r:.60}")
    return _into_sections(values), name


def _split(values: Mapping[str, Any], name: str) -> tuple[dict[str, Any], Variants]:
    """A config without the keys that make several runs of it, and these."""
    keys = Variants.model_fields.keys()
    variants = {key: value for key, value in values.items() if key in keys}
    rest = {key: value for key, value in values.items() if key not in keys}
    return rest, parse(Variants, variants, name)


def section_of() -> dict[str, str]:
    """Which section each setting belongs to; setting names are unique over the sections."""
    return {
        key: section
        for section, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Strict)
        for key in field.annotation.model_fields
    }


def _into_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move settings that stand at the top level into their sections."""
    sections = section_of()
    moved = {key: value for key, value in values.items() if key not in sections}
    for key in values.keys() & sections.keys():
        section = moved.get(sections[key]) or {}
        if isinstance(section, Mapping):  # anything else is reported when it is validated
            moved[sections[key]] = {**section, key: values[key]}
    return moved
