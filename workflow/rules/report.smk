"""Scores, weights and histories -> the results table and pictures."""


rule table:
    input:
        lambda wildcards: expand(
            "results/{experiment}/stage{stage}/benchmark-{split}.csv",
            experiment=wildcards.get("experiment", EXPERIMENTS),
            split=SPLITS,
            stage=STAGES,
        ),
    output:
        text="results/{experiment}/benchmark.txt",
        csv="results/{experiment}/benchmark.csv",
    log:
        "logs/{experiment}/table.log",
    benchmark:
        "logs/benchmarks/{experiment}/table.tsv"
    localrule: True
    shell:
        "dsrl table {input:q} --output {output.text:q} 2> {log:q}"


use rule table as results with:
    output:
        text="results/benchmark.txt",
        csv="results/benchmark.csv",
    log:
        "logs/table.log",
    benchmark:
        "logs/benchmarks/table.tsv"


rule examples:
    input:
        weights=expand(
            "results/{{experiment}}/stage{stage}/final.weights",
            stage=STAGES,
        ),
        data=prepared(SPLITS[0]),
    output:
        "results/{experiment}/examples.png",
    log:
        "logs/{experiment}/examples.log",
    benchmark:
        "logs/benchmarks/{experiment}/examples.tsv"
    threads: gpu_threads()
    resources:
        **gpu_resources(),
        mem_mb=evaluation_memory(),
        runtime=60,
        options=f"--device {SETTINGS.resources.device}",
    params:
        data=subpath(input.data, ancestor=2),
        split=SPLITS[0],
        examples=SETTINGS.report.examples,
    shell:
        "{resources.launch} plot-examples {input.weights:q} --data {params.data:q}"
        " --dataset-split {params.split} --count {params.examples} --output {output:q}"
        " {resources.options} 2> {log:q}"


rule curves:
    input:
        expand("results/{{experiment}}/stage{stage}/history.csv", stage=STAGES),
    output:
        "results/{experiment}/curves.png",
    log:
        "logs/{experiment}/curves.log",
    benchmark:
        "logs/benchmarks/{experiment}/curves.tsv"
    localrule: True
    shell:
        "dsrl plot-curves {input:q} --output {output:q} 2> {log:q}"
