"""The settings of a run, typed: one source of defaults, messages, JSON schema and documentation.

A config file is a YAML mapping of the sections below; whatever it leaves out has its default.
This module is read at every start of Snakemake and of `dsrl`, so it imports no torch.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

# What all experiments of a config have in common.
SHARED = frozenset(
    ("experiment", "experiments", "seeds", "track_code", "demo", "benchmark", "report", "resources")
)
STAGES = (1, 2, 3)
STAGE_NAMES = {1: "SSSR", 2: "SSSR+SISR", 3: "SSSR+SISR+FA"}

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # of a folder
Probability = Annotated[float, Field(ge=0, le=1)]
# On a command line every value is text, which pydantic takes for a number but not for a literal.
OutputStride = Annotated[
    Literal[8, 16, 32], BeforeValidator(lambda v: int(v) if str(v).isdigit() else v)
]


class Strict(BaseModel):
    """A mapping whose keys are all known and whose values cannot be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Strict):
    """Which images the network learns from, and at which size."""

    dataset: str = Field(
        "demo",
        description="`demo`, `cityscapes`, `camvid`, or the path of a YAML file that describes "
        "a data set of your own",
    )
    input_size: Size = Field(
        (256, 512), description="height and width of the network's input; its output is twice that"
    )
    prepared_size: Size | None = Field(
        None,
        description="height and width at which images are stored for training; default: the "
        "output size. Larger lets random crops zoom into real detail",
    )

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the prediction: twice the input."""
        return 2 * self.input_size[0], 2 * self.input_size[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the prepared arrays."""
        return self.prepared_size or self.output_size

    @model_validator(mode="after")
    def _prepared_holds_output(self) -> Self:
        if any(s < o for s, o in zip(self.stored_size, self.output_size, strict=True)):
            raise ValueError(
                f"prepared_size {list(self.stored_size)} is smaller than the output size "
                f"{list(self.output_size)}; enlarge it or leave it out"
            )
        return self


class Demo(Strict):
    """The street scenes that `dsrl demo-data` draws; used by the dataset `demo` only."""

    train_images: int = Field(120, ge=1, description="number of images to learn from")
    val_images: int = Field(24, ge=1, description="number of images to validate on")
    image_size: Size = Field((256, 512), description="height and width of the drawn images")
    demo_seed: int = Field(0, ge=0, description="another number draws other streets")


class Model(Strict):
    """The network."""

    network: Literal["deeplabv3plus", "espnetv2"] = Field(
        "deeplabv3plus",
        description="base network; `encoder`, `pretrained`, `output_stride` and `decoder_channels` "
        "are of DeepLabv3+, `width_scale` of ESPNetv2",
    )
    encoder: str = Field("resnet101", description="any timm model with `features_only`")
    pretrained: bool = Field(
        False, description="start the encoder from timm's weights, downloaded once"
    )
    output_stride: OutputStride = Field(
        16, description="input resolution over that of the encoder's last features"
    )
    upsampler: Literal["bilinear", "pixel_shuffle", "transposed", "none"] = Field(
        "bilinear",
        description="the module that makes the base network's output twice as large; `none` "
        "leaves it to the final resize",
    )
    decoder_channels: int = Field(
        256, ge=4, multiple_of=4, description="channels of ASPP and decoders; DeepLabv3+ has 256"
    )
    width_scale: float = Field(
        2.0, gt=0, multiple_of=0.5, description="the s of ESPNetv2, which scales its channels"
    )

    @property
    def encoder_name(self) -> str:
        """The encoder, as a reader of the table would name it."""
        return self.encoder if self.network == "deeplabv3plus" else f"s = {self.width_scale}"

    @property
    def unused(self) -> set[str]:
        """The keys that are of another network."""
        of_networks = {
            "deeplabv3plus": {"encoder", "pretrained", "output_stride", "decoder_channels"},
            "espnetv2": {"width_scale"},
        }
        return set().union(*(keys for name, keys in of_networks.items() if name != self.network))

    @model_validator(mode="after")
    def _pretrained_exists(self) -> Self:
        if self.pretrained and self.network == "espnetv2":
            raise ValueError("there are no pretrained weights for espnetv2; set pretrained: false")
        return self


class Training(Strict):
    """How a stage is trained; `stages` overrides these keys for one stage."""

    init: Literal["previous", "encoder"] = Field(
        "previous",
        description="what stages 2 and 3 start from: `previous` (the final weights of the stage "
        "before) or `encoder` (as stage 1 does, so that all stages can be compared at equal "
        "training)",
    )
    epochs: int = Field(250, ge=1, description="passes over the training split")
    batch_size: int = Field(8, ge=2, description="images per step, over all processes together")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of the first step")
    end_learning_rate: float = Field(0.0, ge=0, description="learning rate after the last step")
    poly_power: float = Field(0.9, gt=0, description="exponent of the poly schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of SGD")
    val_interval: int = Field(
        1, ge=1, description="validate after every so many epochs (and after the last)"
    )
    early_stopping: int = Field(
        0, ge=0, description="stop after so many validations without a better mean IoU; 0: never"
    )
    freeze_batch_norm: bool = Field(
        False, description="keep the running statistics and affine weights of batch norm as loaded"
    )


class Loss(Strict):
    """Weights and details of L = L_ce + w1 L_mse + w2 L_fa."""

    w1: float = Field(0.1, ge=0, description="weight of the super-resolution loss (stages 2 and 3)")
    w2: float = Field(1.0, ge=0, description="weight of the feature-affinity loss (stage 3)")
    fa_stride: int = Field(
        8,
        ge=8,
        description="output resolution over that of the maps whose affinities are compared, to "
        "which finer ones are pooled; 8, as in the paper, is that of the DeepLabv3+ decoder",
    )
    fa_detach: Literal["none", "super_resolution", "segmentation"] = Field(
        "none", description="which side receives no gradient from the feature-affinity loss"
    )


class Augmentation(Strict):
    """Random changes of training images; photometric ones touch the network's input only."""

    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (0.5, 2.0), description="range of the zoom, relative to the output size"
    )
    flip: Probability = Field(0.5, description="probability of a horizontal flip")
    brightness: Probability = Field(0.3, description="brightness factor in 1 ± this")
    contrast: Probability = Field(0.3, description="contrast factor in 1 ± this")
    saturation: Probability = Field(0.3, description="saturation factor in 1 ± this")
    hue: float = Field(0.02, ge=0, le=0.5, description="hue shift in ± this, in turns")

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"the range runs backwards: {list(scale)}")
        return scale


class Benchmark(Strict):
    """What the table reports."""

    splits: tuple[Literal["train", "val", "test"], ...] = Field(
        ("val",), min_length=1, description="splits to score; `test` only where it has labels"
    )
    latency_runs: int = Field(20, ge=1, description="timed passes of the pruned network")


class Report(Strict):
    """The pictures beside the table."""

    examples: int = Field(4, ge=1, description="images of the first scored split to picture")


class Resources(Strict):
    """Where and how fast a job runs; changing these recomputes nothing."""

    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="`auto`: a GPU if there is")
    gpus_per_job: int = Field(
        1, ge=1, description="GPUs of a training on one machine; several are run by torchrun"
    )
    nodes: int = Field(
        1, ge=1, description="machines of a training, each with `gpus_per_job`; several need Slurm"
    )
    num_workers: int = Field(
        2, ge=0, description="processes that load training images, beside each GPU"
    )
    compile: bool = Field(False, description="torch.compile the network (CUDA only)")
    checkpoint_interval: int = Field(1, ge=1, description="save resume state every so many epochs")
    checkpoint_history: int = Field(1, ge=1, description="how many checkpoints to keep")


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


S = TypeVar("S", bound=Strict)


def parse(model: type[S], values: Any, source: str) -> S:
    """Validate `values` as `model`.

    Raises:
        ValueError: one line that names `source`, the key at fault and, for a misspelt key, the
            nearest valid one.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{source}: expected a mapping of keys to values, got {values!r:.60}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        messages = [_message(model, problem) for problem in error.errors()]
        raise ValueError(" ".join(f"{source}: {'; '.join(messages)}".split())) from None


def _message(model: type[BaseModel], problem: Any) -> str:
    """One line for one pydantic error."""
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(model, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0)
        return f"unknown key '{key}'; did you mean '{'.'.join([*map(str, location[:-1]), *near])}'?"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r:.60}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the mapping that holds the last key of `location`."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        for candidate in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    # At the top level a setting may stand without its section.
    return [*model.model_fields, *(section_of() if model is Settings else ())]


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML; the message names the file and the line.
    """
    return _parse_yaml(Path(path).read_bytes(), str(path))


def _parse_yaml(text: str | bytes, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except Exception as error:  # what is tagged as a date or a number makes PyYAML raise anything
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from None


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
        values = (_parse_yaml(source, name) if inline else read_yaml(Path(source))) or {}
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
