"""Write dsrl/config/encoders.json, the timm models that can be encoders (`make encoders`).

Takes minutes, as each model is built, on the meta device.
"""

import json
import warnings
from typing import Any

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_deprecated_models

from dsrl.config.encoders import LIST
from dsrl.models.backbone import Backbone


def entry(name: str) -> dict[str, Any]:
    """What the list says of a model; without output strides, it cannot be an encoder."""
    current = get_deprecated_models().get(name) or name
    tagged = sorted(get_arch_pretrained_cfgs(name))
    return {
        "output_strides": [stride for stride in (8, 16, 32) if _can_have(name, stride)],
        "tags": [tag for _, dot, tag in (n.partition(".") for n in tagged) if dot],
        "pretrained": timm.models.is_model_pretrained(current),
    }


def _can_have(name: str, output_stride: int) -> bool:
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            Backbone(name, output_stride)
    except ValueError:
        return False
    return True


def encoders() -> dict[str, dict[str, Any]]:
    """All models of the installed timm that can be encoders, those under their old names too."""
    names = sorted([*timm.list_models(), *get_deprecated_models()])
    found = {name: entry(name) for name in names}
    return {name: value for name, value in found.items() if value["output_strides"]}


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in encoders().items()]
    head = f'{{"timm": {json.dumps(timm.__version__)}, "encoders": {{'
    LIST.write_text("\n".join([head, ",\n".join(lines), "}}"]) + "\n", encoding="utf-8")
