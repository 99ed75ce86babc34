"""Stage 1 -> 2 -> 3. Checkpoints lie beside the outputs, where Snakemake does not delete them.

A training with other settings, data or code that is there already is set aside.
"""

# Only for files that are missing: Snakemake deletes the outputs of rules that it repeats, and a file
# that the user put there must stay. Here, and not in a job: a compute node may have no internet.
if ENCODERS:

    rule encoder:
        output:
            "data/encoders/{file}",
        log:
            "logs/encoder_{file}.log",
        benchmark:
            "logs/benchmarks/encoder_{file}.tsv"
        wildcard_constraints:
            file="|".join(map(re.escape, ENCODERS)),
        localrule: True
        params:
            name=lambda wildcards: ENCODERS[wildcards.file],
        shell:
            "dsrl fetch-encoder {params.name:q} --output {output:q} 2> {log:q}"


# Snakemake deletes outputs before it runs their rule again; `dsrl train` brings them back to set
# them aside.
onstart:
    logger.info("logs of the jobs: logs/; a training: tail -f logs/<run>/train_stage<k>.log")
    for run, stage in [(run, stage) for run in RUNS for stage in stages(run)]:
        for file in ("final.weights", "history.csv"):
            keep(Path("results", run, f"stage{stage}", file))


rule train:
    input:
        train=prepared("train"),
        val=prepared("val"),
        arrays=arrays("train", "val"),
        initial=initial_weights,
        settings=lambda wildcards: recipe_file(wildcards.run, wildcards.stage),
    output:
        weights="results/{run}/stage{stage}/final.weights",
        history="results/{run}/stage{stage}/history.csv",
    log:
        "logs/{run}/train_stage{stage}.log",
    benchmark:
        "logs/benchmarks/{run}/train_stage{stage}.tsv"
    wildcard_constraints:
        run=runs_with(same=False),
    threads: gpu_threads(HARDWARE.gpus_per_job)
    resources:
        **gpu_resources(HARDWARE.gpus_per_job, HARDWARE.nodes),
        mem_mb=train_memory,
        runtime=train_time,
        options=train_options(),
    params:
        initial=lambda wildcards, input: (
            f"--init-weights {shlex.quote(input.initial)}" if input.initial else ""
        ),
        labels=labels,
        data=subpath(input.train, ancestor=2),
        output=subpath(output.weights, parent=True),
        code=code_of("training"),
    shell:
        "{resources.launch} train --set-aside --stage {wildcards.stage} --data {params.data:q}"
        " --config {input.settings:q} {params.initial} {params.labels:q}"
        " --output {params.output:q} --code={params.code} {resources.options} 2> {log:q}"


# Experiments that differ in w2 only have stages 1 and 2 in common: these are trained once, and the
# files of the other experiments are second names of theirs.
rule same_training:
    input:
        weights=same_training("final.weights"),
        history=same_training("history.csv"),
    output:
        weights="results/{run}/stage{stage}/final.weights",
        history="results/{run}/stage{stage}/history.csv",
    log:
        "logs/{run}/same_training_stage{stage}.log",
    benchmark:
        "logs/benchmarks/{run}/same_training_stage{stage}.tsv"
    wildcard_constraints:
        run=runs_with(same=True),
    localrule: True
    shell:
        "((ln -f {input.weights:q} {output.weights:q} || cp {input.weights:q} {output.weights:q}) &&"
        " (ln -f {input.history:q} {output.history:q} || cp {input.history:q} {output.history:q}))"
        " 2> {log:q}"


rule prune:
    input:
        lambda wildcards: of_stages("final.weights")(wildcards)[-1],
    output:
        "results/{run}/inference.weights",
    log:
        "logs/{run}/prune.log",
    benchmark:
        "logs/benchmarks/{run}/prune.tsv"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_of("checkpoints"),
    shell:
        "dsrl prune-weights --src-weights {input:q} --dest-weights {output:q} 2> {log:q}"
