"""Scores -> the results table, and the report."""


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
        figures=[f"results/{run}/{figure}.png" for run in RUNS for figure in figures(run)],
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
