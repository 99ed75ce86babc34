"""The sections of a config but `model`: every setting with its type, default and meaning."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsrl.config.strict import Strict, parse_yaml

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width
Fit = Literal["stretch", "pad"]  # how an image of another aspect ratio becomes the input
Probability = Annotated[float, Field(ge=0, le=1)]


def prepared_suffix(size: tuple[int, int], fit: Fit) -> str:
    """How the folder of arrays of a size ends, after the name of the data set: `-192x256`."""
    return f"-{size[0]}x{size[1]}" + ("-pad" if fit == "pad" else "")


class Data(Strict):
    """The data set and the sizes of its images."""

    dataset: str = Field(
        "demo",
        description="`demo`, `cityscapes`, `camvid`, `voc`, or the path of a YAML file that "
        "describes your own data set",
    )
    input_size: Size = Field(
        (256, 512), description="height and width of the network's input; its output is twice that"
    )
    fit: Fit = Field(
        "stretch",
        description="how images become the input: `stretch` changes their aspect ratio; `pad` "
        "keeps it, and adds borders that count in no loss and no score",
    )
    prepared_size: Size | None = Field(
        None,
        description="height and width at which images are stored for training; default: the "
        "output size. A larger size lets random crops zoom into real detail",
    )

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the prediction: twice the input."""
        return 2 * self.input_size[0], 2 * self.input_size[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the prepared arrays."""
        return self.prepared_size or self.output_size

    @property
    def folder_suffix(self) -> str:
        """How the folder of the prepared arrays ends, after the name of the data set."""
        return prepared_suffix(self.stored_size, self.fit)

    @model_validator(mode="after")
    def _prepared_holds_output(self) -> Self:
        if any(s < o for s, o in zip(self.stored_size, self.output_size, strict=True)):
            raise ValueError(
                f"prepared_size {list(self.stored_size)} is smaller than the output size "
                f"{list(self.output_size)}; enlarge it or leave it out"
            )
        return self


class Demo(Strict):
    """The street scenes that `dsrl demo-data` draws; only for the data set `demo`."""

    train_images: int = Field(120, ge=1, description="number of training images")
    val_images: int = Field(24, ge=1, description="number of validation images")
    image_size: Size = Field((256, 512), description="height and width of the drawn images")
    demo_seed: int = Field(0, ge=0, description="seed of the drawing")


class Training(Strict):
    """How a stage is trained; `stages` overrides these keys for one stage."""

    init: Literal["previous", "encoder"] = Field(
        "previous",
        description="what stages 2 and 3 start from: `previous` (the final weights of the stage "
        "before) or `encoder` (the same as stage 1, so that the stages can be compared at equal "
        "training)",
    )
    epochs: int = Field(250, ge=1, description="passes over the training split")
    batch_size: int = Field(8, ge=2, description="images per step, over all processes together")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of the first step")
    end_learning_rate: float = Field(0.0, ge=0, description="learning rate after the last step")
    poly_power: float = Field(0.9, gt=0, description="exponent of the poly schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of SGD")
    decay_norm_and_bias: bool = Field(
        True,
        description="apply weight decay to batch norm, biases and PReLU slopes, too, and not only "
        "to the weights of convolutions",
    )
    encoder_learning_rate_factor: float = Field(
        1.0,
        gt=0,
        description="learning rate of a trained encoder (without ASPP), relative to that of the "
        "rest; 0.1 is common. Of no effect where the encoder starts from random values",
    )
    val_interval: int = Field(
        1, ge=1, description="epochs between validations; the last epoch is always validated"
    )
    early_stopping: int = Field(
        0, ge=0, description="stop after this many validations without a better mean IoU; 0: never"
    )
    freeze_batch_norm: bool = Field(
        False,
        description="keep running statistics and affine parameters of batch norm in a trained "
        "encoder (without ASPP) as loaded",
    )
    sync_batch_norm: Literal["auto", "always", "never"] = Field(
        "auto",
        description="of several GPUs, compute batch norm over the images of all of them; `auto`: "
        "if each has less than 16",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="floating-point type of the forward pass; `auto`: bf16 on GPUs that have it, "
        "fp16 on others, fp32 on the CPU",
    )


class Loss(Strict):
    """Weights and details of L = L_ce + w1 L_mse + w2 L_fa."""

    w1: float = Field(0.1, ge=0, description="weight of the super-resolution loss (stages 2 and 3)")
    w2: float = Field(1.0, ge=0, description="weight of the feature-affinity loss (stage 3)")
    class_weights: str | tuple[float, ...] = Field(
        "none",
        description="weights of the classes in the cross entropy: `none`; `inverse_log_frequency`, "
        "1 / ln(1.1 + the class's share of the labelled training pixels), as ESPNet is trained; or "
        "a list, in the order of the classes",
    )
    ohem_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="online hard example mining: the cross entropy is over the pixels whose true "
        "class has a probability below this, such as 0.7, and at least over the hardest sixteenth. "
        "Default: over all",
    )
    fa_stride: int = Field(
        8,
        ge=8,
        description="ratio of the output resolution to that of the feature maps that are compared; "
        "finer maps are pooled to it. 8, as in the paper, is the DeepLabv3+ decoder's",
    )
    fa_detach: Literal["none", "super_resolution", "segmentation"] = Field(
        "none", description="which side gets no gradient from the feature-affinity loss"
    )
    fa_rows: int | None = Field(
        None,
        ge=1,
        description="estimate the feature-affinity loss from the pairs of this many random pixels "
        "with all pixels. Default: all pairs, exactly",
    )

    @field_validator("class_weights", mode="before")
    @classmethod
    def _known_weights(cls, value: Any) -> Any:
        found = value
        if str(value).startswith("["):  # also an option, which is text
            found = parse_yaml(str(value), "class_weights")
        if found in ("none", "inverse_log_frequency"):
            return found
        if isinstance(found, list | tuple) and all(_is_positive(weight) for weight in found):
            return tuple(map(float, found))
        raise ValueError(
            "expected none, inverse_log_frequency or a list of positive numbers, one for each "
            f"class, got {value!r:.60}"
        )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


class Augmentation(Strict):
    """Random augmentation of training images."""

    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (0.5, 2.0), description="range of the zoom, relative to the output size"
    )
    rotation: float = Field(0.0, ge=0, le=180, description="rotation in ± this, in degrees")
    flip: Probability = Field(0.5, description="probability of a horizontal flip")
    brightness: Probability = Field(0.3, description="brightness factor in 1 ± this")
    contrast: Probability = Field(0.3, description="contrast factor in 1 ± this")
    saturation: Probability = Field(0.3, description="saturation factor in 1 ± this")
    hue: float = Field(0.02, ge=0, le=0.5, description="hue shift in ± this, in turns")

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"expected a range from small to large, got {list(scale)}")
        return scale


class Benchmark(Strict):
    """The results table."""

    splits: tuple[Literal["train", "val", "test"], ...] = Field(
        ("val",), min_length=1, description="splits to score; `test` only if it has labels"
    )
    latency_runs: int = Field(20, ge=1, description="timed forward passes of the pruned network")


class Report(Strict):
    """The figures beside the table."""

    examples: int = Field(4, ge=1, description="images of the first scored split to show")


class Resources(Strict):
    """Where and how fast a job runs; changing these computes nothing again."""

    device: Literal["auto", "cpu", "gpu", "cuda"] = Field(
        "auto", description="`auto`: a GPU if available; `cuda` is another word for `gpu`"
    )
    gpus_per_job: int = Field(
        1, ge=1, description="GPUs of a training; several are started by torchrun"
    )
    nodes: int = Field(
        1, ge=1, description="nodes of a training, each with `gpus_per_job`; several need Slurm"
    )
    threads_per_job: int | None = Field(
        None,
        ge=1,
        description="CPU cores of each training and benchmark without a GPU. Default: all that "
        "Snakemake has; with 1, several trainings run side by side, which is faster in sum",
    )
    num_workers: int = Field(2, ge=0, description="data loader processes of each training process")
    compile: bool = Field(False, description="torch.compile the network (CUDA only)")
    checkpoint_interval: int = Field(1, ge=1, description="epochs between checkpoints")
    checkpoint_history: int = Field(1, ge=1, description="number of checkpoints to keep")
