"""Scores through a class map are those of loops over classes and pixels, in float64."""

import math
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml

from dsrl.checkpoints.weights import Weights, save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.data.description import load_description
from dsrl.data.manifest import ClassInfo
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import InputTransform, resize_labels, resize_logits
from dsrl.evaluation.benchmark import benchmark, constant_scores, most_frequent_class
from dsrl.evaluation.class_map import BUILT_IN, read_class_map
from dsrl.evaluation.evaluate import evaluate

CPU = torch.device("cpu")
OWN = ["a", "b", "c", "d", "e", "f", "g"]  # classes of the weights
GROUPS = {"road": ["f", "b"], "building": "d", "sky": "a", "sidewalk": ["e"]}  # c and g: nothing


def read(folder: Path, groups: object, own=OWN, data=("road", "sky")):
    path = folder / "map.yaml"
    path.write_text(groups if isinstance(groups, str) else yaml.safe_dump(groups))
    return read_class_map(str(path), own, data, "w.weights", "data/val")


class Fixed(torch.nn.Module):
    """Logits of seven classes, each pixel for itself: the same in batches of any size."""

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        factors = torch.linspace(-5, 4, 7)[:, None, None]
        large = F.interpolate(images, scale_factor=2, mode="bilinear")
        red, green, blue = large[:, :, None].unbind(1)
        return SimpleNamespace(logits=(factors * red).cos() * green + (factors + blue).sin())


def reference(split: PreparedSplit, transform: InputTransform, native: bool) -> dict[str, object]:
    """The scores, by the names in GROUPS."""
    names = [c.name for c in split.manifest.classes]
    counts_as = {one: name for name, group in GROUPS.items() for one in group}
    answers, labels, right = [], [], []  # of each image
    for index, image in enumerate(split.images):
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        logits = Fixed()(transform(pixels)).logits[0].numpy().astype(np.float64)
        label = split.native_label(index) if native else split.labels[index]
        if not native:
            label = resize_labels(torch.from_numpy(label.copy())[None], logits.shape[1:])[0].numpy()
        answer = resize_logits(torch.from_numpy(logits)[None], label.shape)[0].argmax(0).numpy()
        answers.append([counts_as.get(OWN[value], "none") for value in answer.flat])
        labels.append(["ignored" if value == 255 else names[value] for value in label.flat])
        if not native:
            shares = (np.exp(logits) / np.exp(logits).sum(0)).reshape(7, -1).T
            right += [
                -math.log(sum(p for one, p in zip(OWN, share, strict=True) if one in group))
                for name, share in zip(labels[-1], shares, strict=True)
                if (group := GROUPS.get(name))
            ]

    def ious(answer: list[str], label: list[str]) -> dict[str, float]:
        pairs = [(a, b) for a, b in zip(answer, label, strict=True) if b != "ignored"]
        found = {}
        for name in GROUPS:
            union = sum(name in pair for pair in pairs)
            found[name] = sum(pair == (name, name) for pair in pairs) / union if union else math.nan
        return found

    all_answers, all_labels = ([*chain(*images)] for images in (answers, labels))
    whole = ious(all_answers, all_labels)
    pairs = [(a, b) for a, b in zip(all_answers, all_labels, strict=True) if b != "ignored"]
    return {
        "ious": whole,
        "mean_iou": np.nanmean([*whole.values()]),
        "mean_iou_per_image": np.mean(
            [np.nanmean([*ious(*image).values()]) for image in zip(answers, labels, strict=True)]
        ),
        "pixel_accuracy": np.mean([a == b for a, b in pairs]),
        "cross_entropy": np.mean(right) if right else math.nan,
        "answers": {a for a, _ in pairs},
        "labels": {b for _, b in pairs},
    }


@pytest.fixture
def split(prepared, tmp_path) -> PreparedSplit:
    """Stored at half the size of the labels."""
    raw, folder = prepared.parent / "raw", tmp_path / "half"
    preprocess(load_description("demo"), raw, "val", (32, 64), folder / "val", jobs=1)
    return PreparedSplit(folder, "val")


@pytest.fixture
def class_map(split, tmp_path):
    names = [c.name for c in split.manifest.classes]
    return read(tmp_path, {name: [] for name in names} | GROUPS, data=names)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_scores_are_those_of_loops_over_pixels(split, class_map, batch_size):
    transform = InputTransform((16, 32), torch.full((3,), 0.4), torch.full((3,), 0.2))
    found = evaluate(
        Fixed(), split, transform, CPU, batch_size=batch_size, native=True, class_map=class_map
    )
    usual, native = (reference(split, transform, native) for native in (False, True))
    assert usual["answers"] == {*GROUPS, "none"} and len(usual["labels"] - {*GROUPS}) > 5, "weak"
    for name in ("mean_iou", "mean_iou_per_image", "pixel_accuracy"):
        assert getattr(found, name) == pytest.approx(usual[name], rel=1e-12), name
    assert found.mean_iou_native == pytest.approx(native["mean_iou"], rel=1e-12)
    assert found.mean_iou_native != pytest.approx(found.mean_iou, rel=1e-3)
    assert found.cross_entropy == pytest.approx(usual["cross_entropy"], rel=1e-6)
    for info, iou in zip(split.manifest.classes, found.per_class_iou, strict=True):
        assert iou == pytest.approx(usual["ious"].get(info.name, math.nan), nan_ok=True), info.name
    assert len(found.class_pixels) == len(split.manifest.classes)
    assert sum(found.class_pixels) > 0


def test_a_map_to_the_same_classes_changes_no_score(prepared, tmp_path):
    split = PreparedSplit(prepared, "val")
    names = [c.name for c in split.manifest.classes][:7]
    split.manifest = split.manifest.model_copy(update={"classes": split.manifest.classes[:7]})
    split.labels = np.where(split.labels < 7, split.labels, 255).astype(np.uint8)
    transform = InputTransform((64, 128), torch.full((3,), 0.4), torch.full((3,), 0.2))
    same = read(tmp_path, {name: name for name in names}, own=names, data=names)
    assert same.note == "every class has a counterpart"
    mapped, plain = (evaluate(Fixed(), split, transform, CPU, class_map=m) for m in (same, None))
    assert [row[:-1] for row in mapped.confusion] == plain.confusion
    assert {row[-1] for row in mapped.confusion} == {0}, "predictions of none of the classes"
    for name, value in vars(plain).items():
        if name != "confusion":
            np.testing.assert_allclose(getattr(mapped, name), value, rtol=1e-6, err_msg=name)


def test_the_baseline_answers_with_a_class_that_is_scored_and_counts_only_those(prepared):
    val = PreparedSplit(prepared, "val")
    first, second, *_ = np.argsort(val.manifest.class_pixels)[::-1]
    val.folder = prepared / "alone" / "val"  # without a training split beside it
    assert (most_frequent_class(val), most_frequent_class(val, [first])) == (first, second)
    assert constant_scores([6, 3, 1, 0], 1, [0]) == pytest.approx((0.3, 0.15))


def test_the_classes_keep_their_order_whatever_that_of_the_file(tmp_path):
    found = read(tmp_path, "{sky: [g, a], road: c}", data=["road", "sky", "tree"][:2])
    assert found.groups == ((2,), (6, 0), (1, 3, 4, 5))
    assert found.train_ids(torch.tensor([[0, 1, 2], [6, 5, 2]])).tolist() == [[1, 2, 0], [1, 2, 0]]
    assert found.not_scored == [2]
    assert found.note == "predictions of b, d, e, f count as wrong"


def test_classes_without_a_counterpart_are_noted(tmp_path):
    found = read(tmp_path, "{sky: [], road: [a, b, c, d, e, f, g]}")
    assert found.not_scored == [1, 2]
    assert found.note == "not scored, as nothing counts as it: sky"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"road": "a"}, r"map\.yaml: class 'sky' of data/val is missing; .*\[\] if none does$"),
        ({"rode": "a"}, r": key 'rode' is not a class of data/val; did you mean 'road'\?$"),
        ({"road": "a", "sky": ["aa"]}, r": sky: 'aa' is not a class of w\.weights; .* 'a'\?$"),
        ({"road": "a", "sky": ["b", "a"]}, r": 'a' is listed twice, for 'road' and for 'sky'$"),
        ({"road": ["a", "a"], "sky": "b"}, r": 'a' is listed twice, for 'road' and for 'road'$"),
        ({"road": "a", "sky": None}, r"sky: expected the name .*, a list .* or \[\] .*, got None$"),
        ({"road": "a", "sky": [1]}, r"sky: expected the name .*, got \[1\]$"),
        ({"road": "a", "sky": {"b": 1}}, r"sky: expected the name .*, got \{'b': 1\}$"),
        ({"road": "a", 1: "b"}, r": key 1 is not a class of data/val; did you mean"),
        ({"road": [], "sky": []}, r"map\.yaml: no class of the weights counts as one of the data$"),
        ({}, r"map\.yaml: class 'road' of data/val is missing"),
        ("", r"map\.yaml: expected a mapping of the classes of the data to .*, got None$"),
        ("- road", r"map\.yaml: expected a mapping .*, got \['road'\]$"),
        ("{road: a", r"map\.yaml: not YAML: "),
        ("road: a\nsky: b\nroad: c\n", r"map\.yaml: not YAML: key 'road' is given twice .*line 3"),
    ],
)
def test_a_file_that_is_no_map_is_refused_with_the_class(tmp_path, groups, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, groups)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_built_in_ones():
    message = r"^class map 'camvid-cityscapes' is unknown; built-in are cityscapes-camvid, .*\.yaml"
    with pytest.raises(ValueError, match=message):
        read_class_map("camvid-cityscapes", OWN, OWN, "w", "d")


def names_of(dataset: str) -> list[str]:
    return [c.name for c in load_description(dataset).classes]


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.yaml")), ids=lambda path: path.stem)
def test_built_in_maps_fit_the_data_sets_in_their_names(path):
    own, data = map(names_of, path.stem.split("-"))
    for extra in ([], ["unlabelled"]):
        found = read_class_map(path.stem, own + extra, data, "w", "d")
        assert found.not_scored == [len(data)], "each class has a counterpart"


def test_cityscapes_counts_as_camvid_as_the_names_say():
    own, data = names_of("cityscapes"), names_of("camvid")
    found = read_class_map("cityscapes-camvid", own, data, "w", "d")
    counted = {own[o]: data[d] for d, group in enumerate(found.groups[:-1]) for o in group}
    renamed = {
        "sidewalk": "pavement", "traffic sign": "sign", "vegetation": "tree", "rider": "bicyclist",
        "person": "pedestrian", "bicycle": "bicyclist",
    }  # fmt: skip
    same = {"road", "building", "pole", "sky", "car", "fence"}
    assert counted == renamed | {name: name for name in same}


def call_benchmark(
    weights, prepared: Path, folder: Path, class_map: Path | None = None
) -> pd.Series:
    """The row of weights on the CPU."""
    save_weights(folder / "w.weights", weights)
    benchmark(
        folder / "w.weights", prepared, split="val", output=folder / "benchmark.txt", device="cpu",
        latency_runs=1, class_map=class_map and str(class_map),
    )  # fmt: skip
    return pd.read_csv(folder / "benchmark.csv").iloc[0]


def test_a_benchmark_says_that_a_map_was_used(prepared, make_weights, tmp_path, capsys):
    names = [c.name for c in PreparedSplit(prepared, "val").manifest.classes]
    groups = {name: [] for name in names} | {"road": ["wall", "sidewalk"], "sky": "road"}
    read(tmp_path, groups, own=names, data=names)
    path = tmp_path / "map.yaml"
    row = call_benchmark(make_weights(1, num_classes=4), prepared, tmp_path, path)
    note = (
        f"predictions of building count as wrong; not scored, as nothing counts as it: {names[1]}"
    )
    assert row.class_map == str(path) and row.class_map_note.startswith(note)
    captured = capsys.readouterr()
    assert captured.err == f"note: class map {path}: {row.class_map_note}\n"
    scored = {name for name in names if not math.isnan(row[f"iou_{name}"])}
    assert scored <= {"road", "sky"}
    assert row.mean_iou == pytest.approx(np.nanmean([row.iou_road, row.iou_sky]))
    assert row.baseline_class in ("road", "sky")
    text = (tmp_path / "benchmark.txt").read_text()
    assert f"Classes:  counted by the class map {path}\n" in text and row.class_map_note in text


def test_a_map_is_not_used_where_the_classes_agree(prepared, make_weights, tmp_path, capsys):
    row = call_benchmark(make_weights(1), prepared, tmp_path, tmp_path / "absent.yaml")
    assert pd.isna(row.class_map) and pd.isna(row.class_map_note)
    assert capsys.readouterr().err == (
        f"note: {tmp_path}/w.weights: has the classes of {prepared}/val; class map "
        f"{tmp_path}/absent.yaml is not used\n"
    )


@pytest.mark.parametrize("bias", [-1e9, 1e9])
def test_a_class_that_the_data_has_not_is_wrong_where_it_is_predicted(
    prepared, make_weights, tmp_path, capsys, bias
):
    weights = make_weights(1)
    expected = call_benchmark(weights, prepared, tmp_path)
    assert capsys.readouterr().err == ""
    layers = dict(weights.layers)
    last = [name for name in layers if name.startswith("sssr_head.classifier.")]
    assert len(last) == 2
    for name in last:
        more = torch.full_like(layers[name][:1], bias if name.endswith("bias") else 0)
        layers[name] = torch.cat([layers[name], more])
    extra = ClassInfo(name="unlabeled", color=(0, 0, 0), id=0)
    info = weights.info.model_copy(update={"classes": (*weights.info.classes, extra)})
    row = call_benchmark(Weights(info, layers), prepared, tmp_path)
    same = [name for name in row.index if "iou" in name or "accuracy" in name]
    assert "iou_unlabeled" not in row.index
    if bias < 0:  # never predicted
        assert row[same].equals(expected[same])
        assert row.cross_entropy == pytest.approx(expected.cross_entropy)
    else:
        assert (row.pixel_accuracy, row.mean_iou, row.mean_iou_native) == (0, 0, 0)
    assert pd.isna(row.class_map)
    assert capsys.readouterr().err == (
        f"note: {tmp_path}/w.weights: predictions of unlabeled count as wrong, as {prepared}/val "
        "has no such class\n"
    )
