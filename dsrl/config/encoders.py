"""Which timm models can be encoders, from a list: settings are read at every start of Snakemake and
of `dsrl`, and importing timm takes seconds."""

import difflib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("encoders.json")  # `make encoders` writes it
SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")  # timm's prefixes for models that it does not list


@cache
def encoder_list() -> dict[str, Any]:
    """`timm`: the version that the list was made with. `encoders`: by name, the `output_strides`
    that each can have, its pretrained `tags`, and whether there are `pretrained` weights."""
    content: dict[str, Any] = json.loads(LIST.read_text(encoding="utf-8"))
    return content


def check_encoder(name: str, output_stride: int, pretrained: bool) -> None:
    """Check that a timm model can be the encoder.

    Args:
        name: with or without a tag, as in `resnet50` and `resnet50.a1_in1k`.

    Raises:
        ValueError: it cannot; one line that names the setting and, for an unknown name, the nearest
            valid one.
    """
    if name.startswith(SOURCES):
        return
    encoders = encoder_list()["encoders"]
    architecture, dot, tag = name.partition(".")
    encoder = encoders.get(architecture)
    if encoder is None or (dot and tag not in encoder["tags"]):
        if _another_timm_has(name):
            return
        tagged = (f"{key}.{tag}" for key, value in encoders.items() for tag in value["tags"])
        near = difflib.get_close_matches(name.lower(), tagged if dot else encoders, n=1, cutoff=0)
        raise ValueError(
            "model.encoder: expected a timm model with `features_only` and `output_stride`, got "
            f"'{name}'; did you mean '{near[0]}'?"
        )
    if output_stride not in encoder["output_strides"]:
        strides = " or ".join(map(str, encoder["output_strides"]))
        raise ValueError(
            f"model.output_stride: expected {strides} for encoder '{name}', got {output_stride}"
        )
    if pretrained and not encoder["pretrained"]:
        raise ValueError(
            f"model.pretrained: timm has no pretrained weights of encoder '{name}'; set "
            "pretrained: false, or choose another encoder"
        )


def _another_timm_has(name: str) -> bool:
    """Whether the installed timm is not that of the list, and has the model."""
    if version("timm") == encoder_list()["timm"]:
        return False
    import timm

    return bool(timm.is_model(name))
