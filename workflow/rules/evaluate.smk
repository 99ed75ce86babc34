"""Weights -> scores of one stage on one split."""


rule benchmark:
    input:
        weights=benchmarked_weights,
        settings=lambda wildcards: recipe_file(wildcards.run, wildcards.stage),
        train=prepared("train"),
        scored=prepared("{split}"),
        arrays=arrays("{split}"),
    output:
        text="results/{run}/stage{stage}/benchmark-{split}.txt",
        csv="results/{run}/stage{stage}/benchmark-{split}.csv",
        confusion="results/{run}/stage{stage}/benchmark-{split}.confusion.csv",
        images="results/{run}/stage{stage}/benchmark-{split}.images.csv",
    log:
        "logs/{run}/benchmark_stage{stage}_{split}.log",
    benchmark:
        "logs/benchmarks/{run}/benchmark_stage{stage}_{split}.tsv"
    threads: gpu_threads()
    resources:
        **gpu_resources(),
        mem_mb=evaluation_memory,
        runtime=scoring_time,
        options=f"--device {SETTINGS.resources.device}",
    params:
        data=subpath(input.train, ancestor=2),
        runs=SETTINGS.benchmark.latency_runs,
        experiment=lambda wildcards: RUNS[wildcards.run].experiment,
        seed=lambda wildcards: RUNS[wildcards.run].seed,
        code=code_of("evaluation"),
    shell:
        "{resources.launch} benchmark --weights {input.weights:q} --recipe {input.settings:q}"
        " --data {params.data:q}"
        " --dataset-split {wildcards.split} --latency-runs {params.runs}"
        " --experiment {params.experiment} --seed {params.seed} --output {output.text:q}"
        " {resources.options} > {log:q} 2>&1"
