"""Which trained weights an encoder can start from, and where their files are."""

import difflib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dsrl.config.encoders import encoder_list, misspelt
from dsrl.config.model import Model
from dsrl.config.strict import Strict, parse, read_yaml

FOLDER = Path("data/encoders")
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".weights")  # of files that users put there


class Source(Strict):
    """Where trained weights come from: a file in an installed `package`, or a `url`."""

    package: str = ""
    file: str = ""
    url: str = ""
    sha256: str | None = None
    license: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@cache
def sources() -> Mapping[str, Source]:
    """The weights that are known beside timm's, by name."""
    path = Path(__file__).with_name("encoder_sources.yaml")
    found = {name: parse(Source, values, name) for name, values in read_yaml(path).items()}
    return {
        name: source.model_copy(update={"url": source.url.format(name=name)})
        for name, source in found.items()
    }


def known_weights(model: Model) -> str | None:
    """The name of the weights that the encoder of `model` starts from; None if it starts from none,
    or from a file that the user names."""
    if model.initial == "pretrained":
        if model.network == "espnetv2":
            return f"espnetv2_s_{model.width_scale}_imagenet_224x224"
        return model.encoder
    return model.initial if model.initial in sources() else None


def check_weights(model: Model) -> None:
    """Check that there are `pretrained` weights of the encoder, if they are asked for.

    Raises:
        ValueError: there are none, or the settings contradict each other.
    """
    both = {"pretrained", "encoder_weights"} <= model.model_fields_set
    if both and model.encoder_weights != ("pretrained" if model.pretrained else "none"):
        raise ValueError(
            f"model.encoder_weights: {model.encoder_weights} contradicts pretrained: "
            f"{str(model.pretrained).lower()}; remove one of them"
        )
    if model.pretrained_decoder and model.initial == "none":
        raise ValueError(
            "model.pretrained_decoder: needs encoder_weights to take the decoder from; name those "
            "of a whole segmentation network"
        )
    if model.initial != "pretrained":
        return
    name = known_weights(model)
    assert name is not None
    if model.network == "espnetv2" and name not in sources():
        widths = [known.split("_")[2] for known in sources() if known.endswith("imagenet_224x224")]
        raise ValueError(
            "model.encoder_weights: there are pretrained weights of ESPNetv2 for width_scale "
            f"{', '.join(widths)}, got {model.width_scale}; choose one of these, none, or a file"
        )
    if model.network == "deeplabv3plus":
        check_known(name)


def check_known(name: str) -> None:
    """Check that there are trained weights of this name.

    Raises:
        ValueError: there are none; for an unknown name, one line that names the nearest valid one.
    """
    if name in sources():
        return
    if near := misspelt(name):
        near = next(iter(difflib.get_close_matches(name, sources(), n=1)), near)
        raise ValueError(f"'{name}': no such encoder is known; did you mean '{near}'?")
    if not encoder_list()["encoders"].get(name.partition(".")[0], {}).get("pretrained", True):
        raise ValueError(
            f"there are no pretrained weights of encoder '{name}'; choose another encoder, or "
            "encoder_weights: none or a file"
        )


def file_of_known(name: str) -> Path:
    """Where known weights are, or where they belong."""
    stem = re.sub(r"[^\w.-]+", "-", name)
    paths = [FOLDER / f"{stem}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def encoder_file(model: Model) -> Path | None:
    """The file that the encoder of `model` starts from, which may not exist; None if from none."""
    if name := known_weights(model):
        return file_of_known(name)
    return None if model.initial == "none" else Path(model.initial).expanduser()


def missing_encoder_message(model: Model, path: Path) -> str:
    """One line: which weights are missing, and how to get them."""
    if name := known_weights(model):
        return f"{path} is missing; run `dsrl fetch-encoder {name}` where there is internet access"
    near = difflib.get_close_matches(model.initial, ["none", "pretrained", *sources()], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{path}: no such file, named by model.encoder_weights{hint}"
