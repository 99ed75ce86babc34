"""Stage 1 -> 2 -> 3. Resume state lies beside the outputs, where Snakemake does not delete it."""


rule train:
    input:
        train=prepared("train"),
        val=prepared("val"),
        previous=previous_weights,
    output:
        weights="results/{experiment}/stage{stage}/final.weights",
        history="results/{experiment}/stage{stage}/history.csv",
    log:
        "logs/{experiment}/train_stage{stage}.log",
    benchmark:
        "logs/benchmarks/{experiment}/train_stage{stage}.tsv"
    threads: workflow.cores
    resources:
        gpu=1,
        # Not params: where and how fast a job runs is no reason to repeat it.
        options=" ".join(
            f"--{key.replace('_', '-')} {value}"
            for key, value in SETTINGS.resources.model_dump().items()
            if not isinstance(value, bool)
        ),
    params:
        settings=stage_settings,
        initial=lambda wildcards, input: (
            f"--init-weights {input.previous}" if input.previous else ""
        ),
        data=subpath(input.train, ancestor=2),
        output=subpath(output.weights, parent=True),
    shell:
        "dsrl train --stage {wildcards.stage} --data {params.data:q} --config {params.settings:q}"
        " {params.initial} --output {params.output:q} {resources.options} 2> {log:q}"


rule prune:
    input:
        f"results/{{experiment}}/stage{STAGES[-1]}/final.weights",
    output:
        "results/{experiment}/inference.weights",
    log:
        "logs/{experiment}/prune.log",
    benchmark:
        "logs/benchmarks/{experiment}/prune.tsv"
    shell:
        "dsrl prune-weights --src-weights {input:q} --dest-weights {output:q} 2> {log:q}"
