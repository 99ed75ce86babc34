"""The settings of a run, typed: one source of defaults, messages, JSON schema and documentation.

A config file is a YAML mapping of the sections in `sections.py`; whatever it leaves out has its
default. This module is read at every start of Snakemake and of `dsrl`, so it imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dsrl.config.sections import (
    Augmentation,
    Benchmark,
    Data,
    Demo,
    Loss,
    Model,
    Report,
    Resources,
    Training,
)
from dsrl.config.strict import Strict, parse, parse_yaml, read_yaml

# What all experiments of a config have in common.
SHARED = frozenset(
    ("experiment", "experiments", "seeds", "track_code", "demo", "benchmark", "report", "resources")
)
STAGES = (1, 2, 3)
STAGE_NAMES = {1: "SSSR", 2: "SSSR+SISR", 3: "SSSR+SISR+FA"}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]  # of a folder


class Settings(Strict):
    """A config file."""

    experiment: Name = Field("demo", description="name of the folder in `results/`")
    experiment_id: str = Field(
        "", description="any text by which to know a training again; kept in its files"
    )
    description: str = Field("", description="any text about a training; kept in its files")
    seed: int = Field(0, ge=0, description="seeds the weights, data order and augmentation")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
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
    track_code: bool = Field(
        False,
        description="whether a change of the code is a reason to compute again what the changed "
        "module is used for; comments and layout do not count",
    )
    data: Data = Data()
    demo: Demo = Demo()
    model: Model = Model()
    training: Training = Training()
    stages: dict[Annotated[int, Field(ge=1, le=3)], dict[str, Any]] = Field(
        {}, description="keys of `training` for one stage, as in `stages: {3: {epochs: 5}}`"
    )
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    benchmark: Benchmark = Benchmark()
    report: Report = Report()
    resources: Resources = Resources()

    @classmethod
    def known_keys(cls) -> list[str]:
        """At the top level a setting may stand without its section."""
        return [*cls.model_fields, *section_of()]

    @model_validator(mode="after")
    def _stages_override_training(self) -> Self:
        for stage, overrides in self.stages.items():
            parse(Training, {**self.training.model_dump(), **overrides}, f"stages.{stage}")
        return self

    @model_validator(mode="after")
    def _runs_are_valid(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one of them twice")
        if self.experiments:
            self.runs()
        return self

    def runs(self) -> dict[str, "Settings"]:
        """The settings of each run of the workflow, by its folder in `results/`: an experiment's,
        `demo`, or that of one of its seeds, `demo/seed0`.

        Raises:
            ValueError: an experiment changes what is one for all, or is not valid.
        """
        base = self.model_dump(exclude={"experiments", "seeds"})
        found: dict[str, Settings] = {}
        for name, changes in (self.experiments or {self.experiment: {}}).items():
            sections = _into_sections(changes)
            shared = sorted(sections.keys() & SHARED)
            if shared:
                raise ValueError(
                    f"experiments.{name}: '{shared[0]}' is the same for all experiments; change "
                    "it at the top level"
                )
            if self.seeds and "seed" in sections:
                raise ValueError(
                    f"experiments.{name}: has a 'seed', and 'seeds' at the top level gives all "
                    "experiments the same; take one away"
                )
            merged = base | {
                key: {**base[key], **value}
                if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
                else value
                for key, value in sections.items()
            }
            for seed in self.seeds or (merged["seed"],):
                values = {**merged, "experiment": name, "seed": seed}
                folder = f"{name}/seed{seed}" if self.seeds else name
                found[folder] = parse(Settings, values, f"experiments.{name}")
        return found

    def training_of(self, stage: int) -> Training:
        """The `training` section with the overrides of `stage`."""
        return Training.model_validate({**self.training.model_dump(), **self.stages.get(stage, {})})

    def for_stage(self, stage: int) -> dict[str, Any]:
        """The part of the settings that the weights of `stage` depend on, ready for JSON.

        It is itself a config: `read_settings` of it trains the same stage. What a stage does not
        use is left out, so that changing it is no reason to train that stage again.
        """
        unused_loss = {
            1: {"w1", "w2", "fa_stride", "fa_detach"},
            2: {"w2", "fa_stride", "fa_detach"},
        }
        training = self.training_of(stage).model_dump(mode="json")
        if stage == 1:
            del training["init"]
        return {
            "seed": self.seed,
            "data": {"input_size": list(self.data.input_size)},
            "model": self.model.model_dump(mode="json", exclude=self.model.unused),
            "training": training,
            "loss": self.loss.model_dump(mode="json", exclude=unused_loss.get(stage)),
            "augmentation": self.augmentation.model_dump(mode="json"),
        }


def read_settings(source: str | Mapping[str, Any] | None, name: str = "config") -> Settings:
    """Read settings from a YAML file, from an inline mapping such as '{training: {epochs: 2}}',
    or from a mapping; None gives the defaults.

    A setting may stand at the top level without its section (`w2: 0.5`), which keeps
    `snakemake --config w2=0.5` short.

    Raises:
        OSError: the file cannot be read.
        ValueError: one line that names the source and the key at fault.
    """
    values: Any = source or {}
    if isinstance(source, str):
        inline = source.lstrip().startswith("{")
        name = "config" if inline else source
        values = (parse_yaml(source, name) if inline else read_yaml(Path(source))) or {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: expected a mapping of sections, got {values!r:.60}")
    return parse(Settings, _into_sections(values), name)


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
        if isinstance(section, Mapping):  # what it is otherwise is told when it is validated
            moved[sections[key]] = {**section, key: values[key]}
    return moved
