"""The sections of a config: every setting with its type, default and meaning."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dsrl.config.strict import Strict

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # height, width
Probability = Annotated[float, Field(ge=0, le=1)]
# On a command line every value is text, which pydantic takes for a number but not for a literal.
OutputStride = Annotated[
    Literal[8, 16, 32], BeforeValidator(lambda v: int(v) if str(v).isdigit() else v)
]


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
        1, ge=1, description="GPUs of a training; several are run by torchrun"
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
