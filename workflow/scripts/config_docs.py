"""Write config/README.md and the JSON schema of the config (`make docs`)."""

import json
from pathlib import Path

from dsrl.config.settings import Config
from dsrl.config.strict import Strict

ROOT = Path(__file__).parents[2]
INTRODUCTION = """\
# The config, key by key

A config is a YAML file with the sections below. A key that is left out has its default, and a
misspelt key is an error that names the nearest valid one. `--configfile FILE` replaces
`config.yaml`, the demo; `--config` changes single values, with or without their section. The target
comes first:

    snakemake --cores 8 results/benchmark.txt --configfile config/camvid.yaml --config w2=0.5
    snakemake --cores 8 results/benchmark.txt --config 'stages={3: {epochs: 100}}'

Only what depends on a changed key is recomputed: `w2`, say, belongs to stage 3, `report` to the
figures, and `resources` to nothing.

| config | data | sizes (height x width) | purpose |
|---|---|---|---|
| `config.yaml` | drawn by `dsrl demo-data` | 96x192 -> 192x384 | minutes on two cores |
| `sweep.yaml` | the same | 64x128 to 128x256 | several sizes and seeds in one table and plot |
| `camvid-small.yaml` | CamVid | 96x128 -> 192x256 | real images on two cores, in about 35 minutes |
| `camvid-small-espnetv2.yaml` | CamVid | 96x128 -> 192x256 | the paper's second network |
| `camvid.yaml` | CamVid | 180x240 -> 360x480 | the recipe of the paper's size, on a GPU |
| `ablation-small.yaml` | CamVid | 96x128 -> 192x256 | does DSRL help at equal training? |
| `ablation-chained.yaml` | CamVid | 96x128 -> 192x256 | what it adds to a trained network |
| `ablation.yaml` | CamVid | 180x240 -> 360x480 | the same with controls, on a GPU |
| `ablation-short.yaml` | CamVid | 180x240 -> 360x480 | the same, shorter |
| `figure1.yaml` | CamVid | 72x96 to 180x240 | accuracy against input size, on a GPU |
| `figure1-small.yaml` | CamVid | 48x64 to 96x128 | the same, on two cores |
| `cityscapes.yaml` | Cityscapes | 256x512 -> 512x1024 | the reference numbers, on a GPU |
| `cityscapes-espnetv2.yaml` | Cityscapes | 256x512 -> 512x1024 | the paper's recipe, as known |

What most people change:

| key | meaning |
|---|---|
| `data: {dataset, input_size}` | training data, and height and width of the network's input |
| `model: {encoder, output_stride}` | any [timm] model with `features_only` and `output_stride` |
| `model: {encoder_weights}` | trained weights that the encoder starts from |
| `training: {epochs, batch_size, learning_rate}` | of each stage |
| `stages: {3: {epochs: 50}}` | the same for one stage |
| `training: {init: encoder}` | train each stage from scratch, to compare them at equal training |
| `last_stage: 1` | train SSSR alone, such as for a base network |
| `loss: {w1, w2}` | weights of super-resolution and feature affinity |

[timm]: https://github.com/huggingface/pytorch-image-models

**Several experiments and seeds** fit into one config; `sweep.yaml` has four input sizes and three
seeds. They share what they can, equal trainings too (those that differ in `w2` only have stages 1
and 2 in common), and the table shows mean ± standard deviation over the seeds:

```yaml
experiments:                      # a name, and what it changes in this config
  small: {input_size: [64, 128]}
  without-fa: {w2: 0}
seeds: [0, 1, 2]
```

`make docs` writes this page and `workflow/schemas/config.schema.json` from
`settings.py`, `sections.py` and `model.py` of `dsrl/config/`.
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
