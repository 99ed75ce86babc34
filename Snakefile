"""Dual Super-Resolution Learning: archives -> prepared arrays -> stages 1, 2, 3 -> results table."""

from snakemake.utils import min_version

min_version("9.19")


# A config file on the command line replaces the demo's instead of extending it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


# Apptainer image of the locked environment, for `--software-deployment-method apptainer`. Without
# that option, jobs run in the environment of Snakemake.
container: "docker/dsrl.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/trainings.smk"
include: "workflow/rules/code.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "results/benchmark.txt",
        "results/sweep.png" if len({run.data.input_size for run in RUNS.values()}) > 1 else [],
