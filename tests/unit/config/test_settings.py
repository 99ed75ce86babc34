"""Settings: what is misspelt is named, what a stage does not use does not concern it."""

import json
from collections import Counter

import pytest

from dsrl.config.sections import Training
from dsrl.config.settings import Config, Recipe, Settings, read_runs, read_settings, section_of
from dsrl.config.strict import Strict

SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Strict)
}


def refused(values) -> str:
    with pytest.raises(ValueError) as caught:
        read_settings(values)
    message = str(caught.value)
    assert "\n" not in message
    return message


def leaves(tree: dict, *above: str) -> set[tuple[str, ...]]:
    """Paths of the values of nested mappings."""
    return {
        leaf
        for key, value in tree.items()
        for leaf in (leaves(value, *above, key) if isinstance(value, dict) else {(*above, key)})
    }


@pytest.mark.parametrize(
    ("values", "wrong", "right"),
    [
        ({"trainig": {"epochs": 2}}, "trainig", "training"),
        ({"experimant": "x"}, "experimant", "experiment"),
        ({"epoch": 2}, "epoch", "epochs"),
        ({"learning_rat": 0.1}, "learning_rat", "learning_rate"),
        ({"training": {"epoch": 2}}, "training.epoch", "training.epochs"),
        ({"model": {"decoder_chanels": 8}}, "model.decoder_chanels", "model.decoder_channels"),
        ({"loss": {"fa_strides": 8}}, "loss.fa_strides", "loss.fa_stride"),
        ({"stages": {3: {"epoch": 2}}}, "epoch", "epochs"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_valid_one(values, wrong, right):
    message = refused(values)
    assert f"'{wrong}'" in message and f"did you mean '{right}'" in message


def test_every_setting_is_proposed_for_its_own_misspelling():
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            message = refused({section: {key + "x": 1}})
            assert f"did you mean '{section}.{key}'" in message


def test_a_bad_override_of_a_stage_names_the_stage():
    assert "stages.2: epochs" in refused({"stages": {2: {"epochs": 0}}})
    assert "stages.4" in refused({"stages": {4: {"epochs": 1}}})


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"epochs": 0}, "training.epochs"),
        ({"batch_size": 1}, "training.batch_size"),
        ({"scale": [2.0, 0.5]}, "augmentation.scale"),
        ({"decoder_channels": 10}, "model.decoder_channels"),
        ({"fa_stride": 4}, "loss.fa_stride"),
        ({"prepared_size": [300, 300]}, "prepared_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_value_out_of_range_names_its_key(values, key):
    assert key in refused(values)


@pytest.mark.parametrize("text", ["{training: {epochs: 2}", "{training: [}", "{a: b: c}"])
def test_broken_inline_yaml_is_refused_in_one_line(text):
    assert "config" in refused(text)


def test_names_of_settings_are_unique_over_the_sections():
    names = Counter(key for model in SECTIONS.values() for key in model.model_fields)
    names.update(list(Config.model_fields))
    assert [name for name, count in names.items() if count > 1] == []
    assert section_of().keys() | Config.model_fields.keys() == names.keys()


def test_a_setting_may_stand_without_its_section():
    short = read_settings({"w2": 0.5, "epochs": 3, "loss": {"w1": 0.2}, "input_size": [32, 64]})
    long = {"loss": {"w1": 0.2, "w2": 0.5}, "training": {"epochs": 3}}
    assert short == read_settings({**long, "data": {"input_size": [32, 64]}})
    # `snakemake --config` is given in addition to the file, so it wins.
    assert read_settings({"w2": 0.5, "loss": {"w2": 0.1}}).loss.w2 == 0.5


def test_sources_are_equivalent(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("training:\n  epochs: 3\n")
    mapping = read_settings({"training": {"epochs": 3}})
    assert read_settings(str(path)) == read_settings("{training: {epochs: 3}}") == mapping
    assert mapping.training.epochs == 3
    assert read_settings(None) == Settings()


def test_a_stage_overrides_training_for_itself_alone():
    settings = read_settings({"epochs": 9, "stages": {"3": {"epochs": 4, "learning_rate": 0.5}}})
    assert [settings.recipe(stage).training.epochs for stage in (1, 2, 3)] == [9, 9, 4]
    assert settings.recipe(3).training.learning_rate == 0.5
    assert settings.recipe(2).training == settings.training
    assert settings.recipe(1) == read_settings({"epochs": 9}).recipe(1)
    assert settings.recipe(3).model_dump()["training"]["epochs"] == 4


# The first stage whose weights depend on a setting, where it is not stage 1. Anything else must be
# in the recipe of every stage.
USED_FROM = {("loss", "w1"): 2, ("training", "init"): 2} | {
    ("loss", key): 3 for key in ("w2", "fa_stride", "fa_detach")
}
NEVER_USED = {
    ("data", "dataset"),  # checksums identify the data
    ("data", "prepared_size"),
    ("model", "width_scale"),  # by the default network
}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_recipe_is_what_the_stage_depends_on_and_no_more(stage):
    expected = {
        (section, key)
        for section in ("data", "model", "training", "loss", "augmentation")
        for key in SECTIONS[section].model_fields
        if USED_FROM.get((section, key), 1) <= stage
    } - NEVER_USED
    expected -= {("data", "input_size")}
    expected |= {("input_size",), ("seed",), ("stage",)}
    assert leaves(Settings().recipe(stage).model_dump()) == expected


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_recipe_is_a_config_that_trains_the_same_stage(stage):
    settings = read_settings(
        {
            "seed": 7,
            "input_size": [64, 96],
            "prepared_size": [200, 300],
            "weight_decay": 1e-5,  # YAML reads JSON's spelling of it, 1e-05, as a string
            "w1": 0.3,
            "w2": 0.7,
            "fa_detach": "segmentation",
            "scale": [0.8, 1.25],
            "stages": {stage: {"epochs": 5, "init": "encoder"}},
        }
    )
    dump = settings.recipe(stage).model_dump_json(exclude={"stage"})
    assert read_settings(dump).recipe(stage).model_dump_json(exclude={"stage"}) == dump
    recipe = settings.recipe(stage)
    kept = Recipe.model_validate(json.loads(recipe.model_dump_json()))
    assert kept.model_dump() == recipe.model_dump()


def test_settings_cannot_be_changed_once_read():
    with pytest.raises(ValueError, match="frozen"):
        Training().epochs = 3  # type: ignore[misc]


def test_every_default_may_be_written_as_text() -> None:
    """As on a command line, and in values nested in `snakemake --config`."""
    defaults = Settings().model_dump()
    sections = {key: value for key, value in defaults.items() if isinstance(value, dict) and value}
    text = {
        section: {key: str(v) for key, v in values.items() if isinstance(v, (bool, int, float))}
        for section, values in sections.items()
    }
    assert read_settings(text) == Settings()


def test_without_experiments_there_is_one_run() -> None:
    settings = read_settings({"experiment": "mine", "seed": 3})
    assert read_runs({"experiment": "mine", "seed": 3}) == {"mine": settings}


def test_experiments_and_seeds_make_runs() -> None:
    """Overrides reach into sections, with or without naming them, and leave their neighbours."""
    runs = read_runs(
        {
            "w1": 0.3,
            "experiments": {"small": {"input_size": [64, 128]}, "plain": {"loss": {"w2": 0}}},
            "seeds": [0, 7],
        }
    )
    assert list(runs) == ["small/seed0", "small/seed7", "plain/seed0", "plain/seed7"]
    small, plain = runs["small/seed7"], runs["plain/seed0"]
    assert (small.experiment, small.seed, small.data.input_size) == ("small", 7, (64, 128))
    assert (plain.experiment, plain.seed, plain.loss.w1, plain.loss.w2) == ("plain", 0, 0.3, 0)
    assert small.loss.w1 == 0.3 and plain.data == Settings().data


def test_an_experiment_may_have_its_own_seed() -> None:
    runs = read_runs({"seed": 1, "experiments": {"a": {}, "b": {"seed": 5}}})
    assert {name: run.seed for name, run in runs.items()} == {"a": 1, "b": 5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiments": {"a": {"w3": 1}}}, "experiments.a: unknown key 'w3'; did you mean 'w2'?"),
        ({"experiments": {"a": {"epochs": 0}}}, "experiments.a: training.epochs: "),
        ({"experiments": {"a": {"examples": 1}}}, "experiments.a: 'report' is the same for all"),
        ({"experiments": {"a": {"seeds": [1]}}}, "experiments.a: 'seeds' is the same for all"),
        ({"experiments": {"../a": {}}}, "experiments.../a"),
        ({"experiments": {"a": {"loss": 3}}}, "experiments.a: loss: "),
        ({"seeds": [1, 1]}, "seeds: [1, 1] contains duplicates"),
        ({"seeds": [-1]}, "seeds.0: "),
    ],
)
def test_faults_of_experiments_are_named(values, message) -> None:
    with pytest.raises(ValueError) as fault:
        read_runs(values)
    assert message in str(fault.value) and "\n" not in str(fault.value)


def test_a_single_run_is_not_read_from_several_experiments() -> None:
    assert "several experiments" in refused({"experiments": {"a": {}}})
    assert read_settings({"seeds": [3, 4], "seed": 2}).seed == 2
