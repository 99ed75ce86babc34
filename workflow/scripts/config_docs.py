"""Write what documents the config: its JSON schema and config/README.md (`make docs`)."""

import json
from pathlib import Path

from dsrl.config.settings import Config
from dsrl.config.strict import Strict

ROOT = Path(__file__).parents[2]
INTRODUCTION = """\
# The config, key by key

A config is a YAML file of the sections below. Whatever it leaves out has its default, and a
misspelt key is an error that names the nearest valid one. `--configfile FILE` replaces
`config.yaml`, the demo; `--config` changes single values, with or without their section:

    snakemake --cores 8 --config w2=0.5
    snakemake --cores 8 --configfile config/camvid.yaml --config 'stages={3: {epochs: 100}}'

Only what depends on a changed key is computed again: `w2`, say, belongs to stage 3, `report` to the
pictures, and `resources` to nothing.

| config | data | sizes (height x width) | for |
|---|---|---|---|
| `config.yaml` | drawn by `dsrl demo-data` | 96x192 -> 192x384 | minutes on two cores |
| `sweep.yaml` | the same | 64x128 to 128x256 | several sizes and seeds in one table and plot |
| `camvid-small.yaml` | CamVid | 96x128 -> 192x256 | real images on two cores |
| `camvid.yaml` | CamVid | 180x240 -> 360x480 | the recipe of the paper's size, on a GPU |
| `cityscapes.yaml` | Cityscapes | 256x512 -> 512x1024 | the reference numbers, on a GPU |
| `cityscapes-espnetv2.yaml` | Cityscapes | 256x512 -> 512x1024 | the paper's second network |

This page and `workflow/schemas/config.schema.json` come from `dsrl/config/settings.py` and
`dsrl/config/sections.py`, by `make docs`.
"""


def documentation() -> str:
    """config/README.md."""
    parts = [INTRODUCTION, "## Top level\n", _table(Config, sections=False)]
    for name, field in Config.model_fields.items():
        if _is_section(field.annotation):
            summary = " ".join((field.annotation.__doc__ or "").split())
            parts += [f"## `{name}`\n", f"{summary}\n", _table(field.annotation)]
    return "\n".join(parts)


def schema() -> str:
    """The JSON schema, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Strict)


def _table(model: type[Strict], sections: bool = True) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if sections or not _is_section(field.annotation):
            default = json.dumps(field.default)
            lines.append(f"| `{name}` | `{default}` | {field.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "config/README.md").write_text(documentation(), encoding="utf-8")
    (ROOT / "workflow/schemas/config.schema.json").write_text(schema(), encoding="utf-8")
