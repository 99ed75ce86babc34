"""Scores, weights and histories -> the results table, figures, and the report."""


report: "../report/workflow.rst"


rule table:
    input:
        scores=scores,
    output:
        text="results/{experiment}/benchmark.txt",
        csv="results/{experiment}/benchmark.csv",
    log:
        "logs/{experiment}/table.log",
    benchmark:
        "logs/benchmarks/{experiment}/table.tsv"
    localrule: True
    params:
        code=code_of("evaluation"),
    shell:
        "dsrl table {input.scores:q} --output {output.text:q} 2> {log:q}"


# With all that is beside it, so that nothing there is older than this table.
use rule table as results with:
    input:
        scores=scores,
        tables=expand("results/{experiment}/benchmark.txt", experiment=EXPERIMENTS),
        classes=expand("results/{experiment}/classes.png", experiment=EXPERIMENTS),
        figures=expand("results/{run}/{figure}.png", run=RUNS, figure=["examples", "curves"]),
    output:
        text=report("results/benchmark.txt", caption="../report/table.rst", category="Results"),
        csv=report("results/benchmark.csv", caption="../report/table.rst", category="Results"),
    log:
        "logs/table.log",
    benchmark:
        "logs/benchmarks/table.tsv"


rule sweep:
    input:
        "results/benchmark.csv",
    output:
        report("results/sweep.png", caption="../report/sweep.rst", category="Results"),
    log:
        "logs/sweep.log",
    benchmark:
        "logs/benchmarks/sweep.tsv"
    localrule: True
    params:
        code=code_of("figures"),
    shell:
        "dsrl plot-sweep {input:q} --output {output:q} 2> {log:q}"


rule classes:
    input:
        "results/{experiment}/benchmark.csv",
    output:
        report(
            "results/{experiment}/classes.png",
            caption="../report/classes.rst",
            category="Classes",
            labels={"experiment": "{experiment}"},
        ),
    log:
        "logs/{experiment}/classes.log",
    benchmark:
        "logs/benchmarks/{experiment}/classes.tsv"
    localrule: True
    params:
        code=code_of("figures"),
    shell:
        "dsrl plot-classes {input:q} --output {output:q} 2> {log:q}"


rule examples:
    input:
        weights=of_stages("final.weights"),
        data=prepared(SPLITS[0]),
        arrays=arrays(SPLITS[0]),
    output:
        report(
            "results/{run}/examples.png",
            caption="../report/examples.rst",
            category="Predictions",
            labels={"run": "{run}"},
        ),
    log:
        "logs/{run}/examples.log",
    benchmark:
        "logs/benchmarks/{run}/examples.tsv"
    threads: gpu_threads()
    resources:
        **gpu_resources(),
        mem_mb=evaluation_memory,
        runtime=60,
        options=f"--device {SETTINGS.resources.device}",
    params:
        data=subpath(input.data, ancestor=2),
        split=SPLITS[0],
        examples=SETTINGS.report.examples,
        code=code_of("figures"),
    shell:
        "{resources.launch} plot-examples {input.weights:q} --data {params.data:q}"
        " --dataset-split {params.split} --count {params.examples} --output {output:q}"
        " {resources.options} 2> {log:q}"


rule curves:
    input:
        of_stages("history.csv"),
    output:
        report(
            "results/{run}/curves.png",
            caption="../report/curves.rst",
            category="Training",
            labels={"run": "{run}"},
        ),
    log:
        "logs/{run}/curves.log",
    benchmark:
        "logs/benchmarks/{run}/curves.tsv"
    localrule: True
    params:
        code=code_of("figures"),
    shell:
        "dsrl plot-curves {input:q} --output {output:q} 2> {log:q}"
