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


def check_encoder(name: str, output_stride: int) -> None:
    """Check that a timm model can be the encoder.

    Args:
        name: with or without a tag, as in `resnet50` and `resnet50.a1_in1k`.

    Raises:
        ValueError: it cannot; one line that names the setting and, for an unknown name, the nearest
            valid one.
    """
    if near := misspelt(name):
        raise ValueError(
            "model.encoder: expected a timm model with `features_only` and `output_stride`, got "
            f"'{name}'; did you mean '{near}'?"
        )
    encoder = encoder_list()["encoders"].get(name.partition(".")[0])
    if encoder is not None and output_stride not in encoder["output_strides"]:
        strides = " or ".join(map(str, encoder["output_strides"]))
        raise ValueError(
            f"model.output_stride: expected {strides} for encoder '{name}', got {output_stride}"
        )


def misspelt(name: str) -> str | None:
    """The nearest encoder to a name that is none; None if it is one."""
    encoders = encoder_list()["encoders"]
    architecture, dot, tag = name.partition(".")
    encoder = encoders.get(architecture)
    listed = encoder is not None and (not dot or tag in encoder["tags"])
    if listed or name.startswith(SOURCES) or _another_timm_has(name):
        return None
    tagged = (f"{key}.{tag}" for key, value in encoders.items() for tag in value["tags"])
    return difflib.get_close_matches(name.lower(), tagged if dot else encoders, n=1, cutoff=0)[0]


def _another_timm_has(name: str) -> bool:
    """Whether the installed timm is not that of the list, and has the model."""
    if version("timm") == encoder_list()["timm"]:
        return False
    import timm

    return bool(timm.is_model(name))
