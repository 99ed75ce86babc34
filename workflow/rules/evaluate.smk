"""Weights -> scores of one stage on one split."""


rule benchmark:
    input:
        weights=benchmarked_weights,
        train=prepared("train"),
        scored=prepared("{split}"),
    output:
        text="results/{experiment}/stage{stage}/benchmark-{split}.txt",
        csv="results/{experiment}/stage{stage}/benchmark-{split}.csv",
    log:
        "logs/{experiment}/benchmark_stage{stage}_{split}.log",
    benchmark:
        "logs/benchmarks/{experiment}/benchmark_stage{stage}_{split}.tsv"
    threads: gpu_threads()
    resources:
        **gpu_resources(),
        mem_mb=evaluation_memory(),
        runtime=60,
        options=f"--device {SETTINGS.resources.device}",
    params:
        data=subpath(input.train, ancestor=2),
        runs=SETTINGS.benchmark.latency_runs,
    shell:
        "{resources.launch} benchmark --weights {input.weights:q} --data {params.data:q}"
        " --dataset-split {wildcards.split} --latency-runs {params.runs} --output {output.text:q}"
        " {resources.options} > {log:q} 2>&1"
