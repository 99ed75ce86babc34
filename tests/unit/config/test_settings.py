"""Settings: what is misspelt is named, what a stage does not use does not concern it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dsrl.config.recipe import Recipe
from dsrl.config.sections import Training
from dsrl.config.settings import Config, Settings, read_runs, read_settings, section_of
from dsrl.config.strict import Strict, parse_yaml

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


def test_a_single_value_instead_of_a_list_is_answered_with_an_example():
    with pytest.raises(ValueError, match=r"seeds: expected a list, such as \[0, 1, 2\], got 3"):
        read_runs({"seeds": 3})
    message = refused({"input_size": 96})
    assert message.endswith("data.input_size: expected a list, such as [256, 512], got 96")


def test_a_setting_of_another_section_in_stages_is_named_with_its_section():
    message = refused({"stages": {3: {"w2": 3}}})
    assert "stages.3: 'w2' is a setting of loss; stages can change those of training" in message


@pytest.mark.parametrize("text", ["{training: {epochs: 2}", "{training: [}", "{a: b: c}"])
def test_broken_inline_yaml_is_refused_in_one_line(text):
    assert "config" in refused(text)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 1\n", "b: {a: 1, a: 2}", "- [{a: 1, 'a': 2}]"])
def test_a_key_that_is_given_twice_is_refused(text):
    with pytest.raises(
        ValueError, match=r"^x\.yaml: not YAML: key 'a' is given twice in .* line \d"
    ):
        parse_yaml(text, "x.yaml")


def test_a_key_may_be_given_again_elsewhere_and_in_place_of_a_merged_one():
    text = "{r: &r {a: 1, b: 1}, p: {q: &q {<<: *r, a: 2}}, x: {<<: *r, <<: *q, b: 3}, 1: 0}"
    found = parse_yaml(text, "x.yaml")
    assert found["p"]["q"] == {"a": 2, "b": 1} and found["x"] == {"a": 2, "b": 3}


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


def part_of(values: dict, stage: int) -> object:
    """What the training of a stage is told of these settings; a change means to repeat it."""
    return read_settings(values).recipe(stage).model_dump()


ALL, LATER, LAST, NONE = (1, 2, 3), (2, 3), (3,), ()
# Another value for every setting, and the stages whose training it concerns.
CONCERNS = {
    "experiment": ("other", NONE),
    "experiment_id": ("e1", NONE),
    "description": ("text", NONE),
    "seed": (1, ALL),
    "last_stage": (1, NONE),
    "track_code": (True, NONE),
    "stages": ({2: {"epochs": 3}}, (2,)),
    "data.dataset": ("camvid", NONE),  # names the folder, whose checksums do concern it
    "data.input_size": ([128, 256], ALL),
    "data.fit": ("pad", ALL),
    "data.prepared_size": ([600, 1200], NONE),  # as well
    "demo.train_images": (7, NONE),
    "demo.val_images": (7, NONE),
    "demo.image_size": ([64, 128], NONE),
    "demo.demo_seed": (1, NONE),
    "model.network": ("espnetv2", ALL),
    "model.encoder": ("resnet18", ALL),
    # Which file, the checksum of the initial weights says.
    "model.encoder_weights": ("mine.pth", (1,)),
    "model.pretrained": (True, (1,)),
    "model.allow_partial_encoder": (True, ALL),
    "model.pretrained_decoder": (True, (1,)),
    "model.output_stride": (8, ALL),
    "model.upsampler": ("transposed", ALL),
    "model.decoder_channels": (64, ALL),
    "model.separable": (True, ALL),
    "model.sisr_residual": (True, LATER),
    "model.width_scale": (1.0, NONE),  # of ESPNetv2
    "training.init": ("encoder", LATER),
    "training.epochs": (3, ALL),
    "training.batch_size": (4, ALL),
    "training.learning_rate": (0.5, ALL),
    "training.end_learning_rate": (0.001, ALL),
    "training.poly_power": (1.0, ALL),
    "training.momentum": (0.5, ALL),
    "training.weight_decay": (0.1, ALL),
    "training.decay_norm_and_bias": (False, ALL),
    "training.encoder_learning_rate_factor": (0.1, ALL),
    "training.val_interval": (2, ALL),
    "training.early_stopping": (3, ALL),
    "training.freeze_batch_norm": (True, ALL),
    "training.sync_batch_norm": ("never", ALL),
    "training.precision": ("fp32", ALL),
    "loss.w1": (0.5, LATER),
    "loss.w2": (0.5, LAST),
    "loss.fa_stride": (16, LAST),
    "loss.fa_detach": ("segmentation", LAST),
    "loss.class_weights": ("inverse_log_frequency", ALL),
    "loss.ohem_threshold": (0.7, ALL),
    "loss.fa_rows": (100, LAST),
    "augmentation.scale": ([1, 2], ALL),
    "augmentation.rotation": (15.0, ALL),
    "augmentation.flip": (0.1, ALL),
    "augmentation.brightness": (0.1, ALL),
    "augmentation.contrast": (0.1, ALL),
    "augmentation.saturation": (0.1, ALL),
    "augmentation.hue": (0.1, ALL),
    "benchmark.splits": (["test"], NONE),
    "benchmark.latency_runs": (3, NONE),
    "report.examples": (3, NONE),
    "resources.device": ("cpu", NONE),
    "resources.gpus_per_job": (2, NONE),
    "resources.threads_per_job": (1, NONE),
    "resources.nodes": (2, NONE),
    "resources.num_workers": (3, NONE),
    "resources.compile": (True, NONE),
    "resources.checkpoint_interval": (2, NONE),
    "resources.checkpoint_history": (2, NONE),
}


def test_of_every_setting_it_is_known_which_stages_it_concerns():
    plain = Settings.model_fields.keys() - SECTIONS.keys()
    nested = {f"{name}.{key}" for name, model in SECTIONS.items() for key in model.model_fields}
    assert CONCERNS.keys() == plain | nested, "add a new one above"


def test_trainings_of_versions_without_a_setting_are_still_the_same():
    recipe = part_of({}, 3)
    assert "fa_rows" not in recipe["loss"]
    assert "decay_norm_and_bias" not in recipe["training"]
    assert "separable" not in recipe["model"]


@pytest.mark.parametrize("name", CONCERNS)
def test_a_setting_concerns_the_stages_that_use_it_and_no_others(name):
    value, stages = CONCERNS[name]
    section, _, key = name.rpartition(".")
    base = {"encoder_weights": "mine.pth"} if key == "pretrained_decoder" else {}
    changed = {section: base | {key: value}} if section else {key: value}
    read = read_settings(changed).model_dump()
    assert read != Settings().model_dump(), "that is the default"
    assert {k for k in ALL if part_of(changed, k) != part_of(base, k)} == set(stages)


@pytest.mark.parametrize(
    ("changed", "concerned"),
    [({"width_scale": 1.0}, True), ({"encoder": "resnet18"}, False), ({"w2": 0.5}, True)],
)
def test_settings_of_another_network_concern_no_training(changed, concerned):
    espnet = {"network": "espnetv2"}
    assert (part_of(espnet | changed, 3) != part_of(espnet, 3)) == concerned


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


@pytest.mark.parametrize(
    ("values", "file", "folder"),
    [
        ({}, None, "demo"),
        ({"dataset": "/data/my-streets.yaml"}, None, "my-streets"),
        ({}, Path("config/camvid-long.yaml"), "camvid-long"),
        ({"seeds": [1]}, Path("quick.yaml"), "quick/seed1"),
        ({"experiment": "mine"}, Path("quick.yaml"), "mine"),
    ],
)
def test_an_experiment_without_a_name_is_named_by_its_config(values, file, folder) -> None:
    """So that two configs do not share a folder."""
    assert list(read_runs(values, file=file)) == [folder]


@pytest.mark.parametrize("stem", ["試験", "my réseau", "v1.2", "_x"])
def test_a_config_whose_name_is_no_folder_needs_an_experiment(stem) -> None:
    """Two such configs must not end in one folder."""
    with pytest.raises(ValueError, match=rf"{stem}.yaml: the name '{stem}' .* experiment: NAME"):
        read_runs({}, file=Path(f"{stem}.yaml"))
    assert list(read_runs({"experiment": "mine"}, file=Path(f"{stem}.yaml"))) == ["mine"]


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
