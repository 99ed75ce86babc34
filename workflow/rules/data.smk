"""Archives -> raw tree -> prepared arrays."""


rule demo_data:
    input:
        settings=demo_file,
    output:
        expand("data/archives/{archive}", archive=load_description("demo").archives),
    log:
        "logs/demo_data.log",
    benchmark:
        "logs/benchmarks/demo_data.tsv"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=subpath(output[0], parent=True),
        code=code_of("demo"),
    shell:
        "dsrl demo-data --config {input.settings:q} --output {params.folder} 2> {log:q}"


# Only for archives that are missing: Snakemake deletes the outputs of rules that it repeats, and
# an archive that the user put there must stay.
for archive, dataset in [
    (archive, dataset)
    for dataset, description in DATASETS.values()
    for archive in description.downloads
]:
    if not Path("data/archives", archive).exists():

        rule:
            name:
                f"download_{archive}"
            output:
                f"data/archives/{archive}",
            log:
                f"logs/download_{archive}.log",
            benchmark:
                f"logs/benchmarks/download_{archive}.tsv"
            retries: 2
            localrule: True
            params:
                dataset=dataset,
            shell:
                "dsrl download --dataset {params.dataset:q} {output:q} 2> {log:q}"


# Not for the data sets that are there already: Snakemake deletes what a rule is to make.
if UNPACKED:

    rule unpack:
        input:
            archives,
        output:
            directory("data/raw/{dataset}"),
        log:
            "logs/unpack_{dataset}.log",
        benchmark:
            "logs/benchmarks/unpack_{dataset}.tsv"
        wildcard_constraints:
            dataset="|".join(map(re.escape, UNPACKED)),
        resources:
            mem_mb=1000,
            runtime=reading_time,
        params:
            code=code_of("data"),
        shell:
            "dsrl unpack {input:q} --output {output:q} 2> {log:q}"


rule preprocess:
    input:
        raw=raw,
        list=list_file,
        settings=lambda wildcards: description_file(wildcards.dataset),
    output:
        manifest="data/prepared/{dataset}-{height}x{width}{fit}/{split}/manifest.json",
        images="data/prepared/{dataset}-{height}x{width}{fit}/{split}/images.npy",
        labels="data/prepared/{dataset}-{height}x{width}{fit}/{split}/labels.npy",
        native="data/prepared/{dataset}-{height}x{width}{fit}/{split}/native_labels.npy",
    log:
        "logs/preprocess_{dataset}-{height}x{width}{fit}_{split}.log",
    benchmark:
        "logs/benchmarks/preprocess_{dataset}-{height}x{width}{fit}_{split}.tsv"
    wildcard_constraints:
        split="val|test",
    # Before trainings side by side have started, of which one is always running.
    priority: 1
    threads: CORES
    resources:
        mem_mb=loading_memory(CORES),
        runtime=120,
    params:
        dataset=lambda wildcards: DATASETS[wildcards.dataset][0],
        output=subpath(output.manifest, ancestor=2),
        fit=lambda wildcards: "--fit pad" if wildcards.fit else "",
        code=code_of("data"),
    shell:
        "dsrl preprocess --dataset {params.dataset:q} --raw {input.raw:q}"
        " --dataset-split {wildcards.split} --size {wildcards.height} {wildcards.width} {params.fit}"
        " --output {params.output:q} --jobs {threads} 2> {log:q}"


# Training needs no labels at their native size.
use rule preprocess as preprocess_train with:
    output:
        manifest="data/prepared/{dataset}-{height}x{width}{fit}/{split}/manifest.json",
        images="data/prepared/{dataset}-{height}x{width}{fit}/{split}/images.npy",
        labels="data/prepared/{dataset}-{height}x{width}{fit}/{split}/labels.npy",
    wildcard_constraints:
        split="train",
