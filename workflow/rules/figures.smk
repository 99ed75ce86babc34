"""Scores, weights and histories -> figures."""


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
        figure=report(
            "results/{run}/examples.png",
            caption="../report/examples.rst",
            category="Predictions",
            labels={"run": "{run}", "figure": "examples"},
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
        command="plot-examples",
        options="",
        code=code_of("figures"),
    shell:
        "{resources.launch} {params.command} {input.weights:q} {params.options} --data {params.data:q}"
        " --dataset-split {params.split} --count {params.examples} --output {output.figure:q}"
        " {resources.options} 2> {log:q}"


use rule examples as worst with:
    input:
        weights=of_last_stage("final.weights"),
        scores=of_last_stage(f"benchmark-{SPLITS[0]}.images.csv"),
        data=prepared(SPLITS[0]),
        arrays=arrays(SPLITS[0]),
    output:
        figure=report(
            "results/{run}/worst.png",
            caption="../report/worst.rst",
            category="Predictions",
            labels={"run": "{run}", "figure": "worst"},
        ),
    log:
        "logs/{run}/worst.log",
    benchmark:
        "logs/benchmarks/{run}/worst.tsv"
    params:
        data=subpath(input.data, ancestor=2),
        split=SPLITS[0],
        examples=SETTINGS.report.examples,
        command="plot-examples",
        options=lambda wildcards, input: f"--worst {shlex.quote(input.scores)}",
        code=code_of("figures"),


rule confusion:
    input:
        of_stages(f"benchmark-{SPLITS[0]}.confusion.csv"),
    output:
        report(
            "results/{run}/confusion.png",
            caption="../report/confusion.rst",
            category="Predictions",
            labels={"run": "{run}", "figure": "confusion"},
        ),
    log:
        "logs/{run}/confusion.log",
    benchmark:
        "logs/benchmarks/{run}/confusion.tsv"
    localrule: True
    params:
        code=code_of("figures"),
    shell:
        "dsrl plot-confusion {input:q} --output {output:q} 2> {log:q}"


use rule examples as super_resolution with:
    input:
        weights=of_stages("final.weights", first=2),
        data=prepared(SPLITS[0]),
        arrays=arrays(SPLITS[0]),
    output:
        figure=report(
            "results/{run}/super-resolution.png",
            caption="../report/super-resolution.rst",
            category="Branches",
            labels={"run": "{run}", "figure": "super-resolution"},
        ),
        csv="results/{run}/super-resolution.csv",
    log:
        "logs/{run}/super-resolution.log",
    benchmark:
        "logs/benchmarks/{run}/super-resolution.tsv"
    params:
        data=subpath(input.data, ancestor=2),
        split=SPLITS[0],
        examples=SETTINGS.report.examples,
        command="plot-super-resolution",
        options="",
        code=code_of("figures"),


use rule examples as affinity with:
    input:
        weights=of_stages("final.weights", first=2),
        data=prepared(SPLITS[0]),
        arrays=arrays(SPLITS[0]),
    output:
        figure=report(
            "results/{run}/affinity.png",
            caption="../report/affinity.rst",
            category="Branches",
            labels={"run": "{run}", "figure": "affinity"},
        ),
    log:
        "logs/{run}/affinity.log",
    benchmark:
        "logs/benchmarks/{run}/affinity.tsv"
    params:
        data=subpath(input.data, ancestor=2),
        split=SPLITS[0],
        examples=SETTINGS.report.examples,
        command="plot-affinity",
        options="",
        code=code_of("figures"),


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
