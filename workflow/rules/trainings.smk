"""Which trainings the runs need: equal ones are shared, and changed ones are announced."""

from dsrl.checkpoints.provenance import as_text, differences


def training(run, stage):
    """What makes two trainings the same: recipe, data, and what they start from."""
    settings = RUNS[run]
    encoder = settings.starts_from_encoder(stage)
    return (
        settings.recipe(stage).model_dump_json(),
        (NAMES[settings.data.dataset], settings.data.folder_suffix),
        encoder_file(settings.model) if encoder else training(run, stage - 1),
    )


def stages(run):
    """The stages of a run."""
    return STAGES[: RUNS[run].last_stage]


def is_trained(run, stage):
    """Whether a run has begun this training itself; then it stays its own."""
    return Path(f"results/{run}/stage{stage}/checkpoints").exists()


def equal_trainings():
    """(run, stage) -> the run whose training it shares: of equal ones, one that has begun, or the
    first."""
    groups = {}
    for run, stage in [(run, stage) for run in RUNS for stage in stages(run)]:
        groups.setdefault(training(run, stage), []).append((run, stage))
    return {
        other: owner
        for group in groups.values()
        for owner in [next((each for each in group if is_trained(*each)), group[0])[0]]
        for other in group
        if other[0] != owner and not is_trained(*other)
    }


SAME = equal_trainings()


def runs_with(same):
    """A regular expression for the runs whose stage, which follows in the path, has a training of
    its own, or the same as another run."""
    found = {run: [] for run in RUNS}
    for run, stage in itertools.product(RUNS, STAGES):
        if ((run, stage) in SAME) == same:
            found[run].append(str(stage))
    choices = [f"{re.escape(run)}(?=/stage[{''.join(x)}]/)" for run, x in found.items() if x]
    return "|".join(choices) or "(?!)"


def same_training(file):
    """A file of the training that a stage shares."""
    return lambda wildcards: "results/{}/stage{}/{}".format(
        SAME[wildcards.run, int(wildcards.stage)], wildcards.stage, file
    )


def of_stages(file, first=1):
    """A file of each stage of a run from the first on."""
    return lambda wildcards: expand(
        "results/{run}/stage{stage}/{file}",
        run=wildcards.run,
        stage=[stage for stage in stages(wildcards.run) if stage >= first],
        file=file,
    )


def of_last_stage(file):
    """A file of the last stage of a run."""
    return lambda wildcards: f"results/{wildcards.run}/stage{stages(wildcards.run)[-1]}/{file}"


def figures(run):
    """The figures of a run: those of the branches are of a run that has them."""
    of_branches = ["super-resolution", "affinity"] if stages(run)[-1] > 1 else []
    return ["examples", "worst", "confusion", "curves", *of_branches]


def note_retraining(run):
    """Say before anything starts which stages of a run the settings make train again, and why."""
    for stage in stages(run):
        folder, text = Path(f"results/{run}/stage{stage}"), recipe_text(run, stage)
        path = Path(settings_path(folder.parent, folder.name, text))
        earlier = list(path.parent.glob(f"{folder.name}.*.json"))
        there = (folder / "final.weights").exists() and (run, stage) not in SAME
        if not there or not earlier or path.exists():
            continue
        old = json.loads(max(earlier, key=lambda file: file.stat().st_mtime).read_text())
        note = f"was trained with other settings ({as_text(differences(old, json.loads(text)))})"
        note += "; this stage is trained again where it is needed"
        if stage < stages(run)[-1]:
            note += ", with those after it"
        times = Path(f"logs/benchmarks/{run}/train_{folder.name}.tsv")
        if times.is_file():
            seconds = float(times.read_text().splitlines()[-1].split()[0])
            note += f"; it took {seconds / 60:.1f} min"
        logger.warning(f"{folder}: {note}; the old training is kept as {folder}-<date>")
        return


if workflow.is_main_process:
    for run in RUNS:
        note_retraining(run)
