"""Example images show the input, each prediction and the truth of images over the whole split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dsrl.checkpoints.network import load_network
from dsrl.checkpoints.weights import Weights, load_weights, save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.data.palette import colour
from dsrl.figures import examples
from dsrl.figures.figure import save_figure


@pytest.fixture
def weights(of_stages) -> list[Path]:
    return of_stages(1, 3)


@pytest.fixture
def saved(monkeypatch) -> list[Figure]:
    """The figures passed to `save_figure`, which still writes them."""
    figures = []

    def save(figure, output):
        figures.append(figure)
        save_figure(figure, output)

    monkeypatch.setattr(examples, "save_figure", save)
    return figures


def test_columns_and_rows(prepared, weights, saved, tmp_path):
    output = tmp_path / "out.png"
    examples.plot_examples(weights, prepared, split="val", count=2, output=output, device="cpu")
    with Image.open(output) as image:
        assert image.width > 2 * image.height > 600, "two rows of four images at 2:1"
    (figure,) = saved
    axes = np.array(figure.axes).reshape(2, 4)
    titles = ["input, 32x64", "SSSR, 64x128", "SSSR+SISR+FA, 64x128", "truth, 64x128"]
    assert [ax.get_title() for ax in axes[0]] == titles
    split = PreparedSplit(prepared, "val")
    classes = split.manifest.classes
    assert [text.get_text() for text in figure.legends[0].texts] == [c.name for c in classes]
    for row, index in zip(axes, (0, len(split) - 1), strict=True):  # spread over the split
        shown = [ax.images[0].get_array() for ax in row]
        small = Image.fromarray(split.images[index]).resize((64, 32), Image.Resampling.BILINEAR)
        assert np.abs(shown[0].astype(int) - np.asarray(small)).max() <= 1
        pixels = torch.from_numpy(split.images[index].copy()).permute(2, 0, 1)[None]
        for path, prediction in zip(weights, shown[1:3], strict=True):
            network, transform, _ = load_network(path, torch.device("cpu"))
            with torch.no_grad():
                labels = network(transform(pixels)).logits.argmax(1)[0].byte().numpy()
            assert np.mean(prediction != colour(labels, classes)) < 0.001
        assert not np.array_equal(shown[1], shown[2])
        assert np.array_equal(shown[3], colour(split.labels[index], classes))


def test_a_control_is_called_by_what_acted(prepared, weights, saved, tmp_path):
    control = load_weights(weights[1])
    recipe = {"recipe": {"loss": {"w1": 0, "w2": 0}}}
    info = control.info.model_copy(update={"provenance": recipe})
    save_weights(tmp_path / "control.weights", Weights(info, control.layers))
    examples.plot_examples(
        [tmp_path / "control.weights", weights[1]],
        prepared,
        split="val",
        count=1,
        output=tmp_path / "a.png",
        device="cpu",
    )
    titles = [ax.get_title() for ax in saved[0].axes]
    assert titles[1:3] == ["SSSR (stage 3), 64x128", "SSSR+SISR+FA, 64x128"]


def test_an_unknown_format_is_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"a\.doc: unsupported image format"):
        examples.plot_examples(
            [tmp_path / "absent"], tmp_path, split="val", count=1, output=tmp_path / "a.doc",
            device="cpu",
        )  # fmt: skip


def test_a_small_split_is_shown_as_a_whole(prepared, weights, monkeypatch):
    figures = []
    monkeypatch.setattr(examples, "save_figure", lambda figure, output: figures.append(figure))
    examples.plot_examples(
        weights[:1], prepared, split="val", count=99, output=Path("unused"), device="cpu"
    )
    assert len(figures[0].axes) == 5 * 3


def call(weights: list[Path], prepared: Path, output: Path, class_map: Path | None = None) -> None:
    examples.plot_examples(
        weights, prepared, split="val", count=2, output=output, device="cpu",
        class_map=class_map and str(class_map),
    )  # fmt: skip


def test_weights_of_other_classes_are_refused_with_what_differs(prepared, make_weights, tmp_path):
    save_weights(tmp_path / "w.weights", make_weights(1, num_classes=4))
    with pytest.raises(ValueError, match=r"w\.weights: .*\(4 there, 19 here\); .*--class-map"):
        call([tmp_path / "w.weights"], prepared, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_weights_of_other_classes_stand_beside_those_of_the_same_stage(
    prepared, weights, make_weights, saved, tmp_path
):
    other = tmp_path / "other.weights"
    save_weights(other, make_weights(1, num_classes=4, encoder="test_resnet"))
    classes = PreparedSplit(prepared, "val").manifest.classes
    # The second of the four counts as the first, and the others as none of the data's.
    groups = {c.name: [] for c in classes} | {classes[0].name: classes[1].name}
    (tmp_path / "map.yaml").write_text(json.dumps(groups))
    call([weights[0], other], prepared, tmp_path / "out.png", tmp_path / "map.yaml")
    axes = np.array(saved[0].axes).reshape(2, 4)
    titles = ["input, 32x64", "SSSR, 64x128", "SSSR of demo, 64x128", "truth, 64x128"]
    assert [ax.get_title() for ax in axes[0]] == titles
    network, transform, _ = load_network(other, torch.device("cpu"))
    pixels = torch.from_numpy(PreparedSplit(prepared, "val").images[:1].copy()).permute(0, 3, 1, 2)
    with torch.no_grad():
        predictions = network(transform(pixels)).logits.argmax(1)[0].numpy()
    colors = np.array([(0, 0, 0), classes[0].color, (0, 0, 0), (0, 0, 0)])
    shown = axes[0, 2].images[0].get_array()
    assert {0, 1} <= {*predictions.flat}, "or else it shows nothing"
    assert np.mean(shown != colors[predictions]) < 0.001


def test_the_worst_images_come_first_with_their_errors(prepared, trained, saved, tmp_path):
    shutil.copytree(prepared / "val", tmp_path / "val")
    labels = np.load(tmp_path / "val/labels.npy")
    labels[:, :5] = 255
    np.save(tmp_path / "val/labels.npy", labels)
    split = PreparedSplit(tmp_path, "val")
    names = [sample.name for sample in split.manifest.samples]
    scores = tmp_path / "x.images.csv"
    ious = [0.5, float("nan"), 0.2, 0.9, 0.4]
    pd.DataFrame({"image": names, "mean_iou": ious}).to_csv(scores, index=False)
    examples.plot_examples(
        [trained[1] / "final.weights"], tmp_path, split="val", count=2,
        output=tmp_path / "a.png", device="cpu", worst=scores,
    )  # fmt: skip
    axes = np.array(saved[0].axes).reshape(2, 4)
    titles = ["input, 32x64", "SSSR, 64x128", "errors, in black, 64x128", "truth, 64x128"]
    assert [ax.get_title() for ax in axes[0]] == titles
    written = [ax.texts[0].get_text() for ax in axes[:, 0]]
    assert written == [f"{names[2]}: mean IoU 20.0 %", f"{names[4]}: mean IoU 40.0 %"]
    seen: set[int] = set()
    for row, index in zip(axes, (2, 4), strict=True):
        _, prediction, errors, truth = (ax.images[0].get_array() for ax in row)
        ignored = split.labels[index] == 255
        assert np.array_equal(truth, colour(split.labels[index], split.manifest.classes))
        wrong = (prediction != truth).any(-1) & ~ignored
        expected = np.where(ignored, 170, np.where(wrong, 0, 255))
        assert np.array_equal(errors, expected[..., None].repeat(3, -1))
        seen |= {*np.unique(expected)}
    assert seen == {0, 170, 255}, "or else it shows nothing"


def test_scores_of_another_split_are_refused(prepared, weights, tmp_path):
    scores = tmp_path / "x.images.csv"
    pd.DataFrame({"image": ["a", "b"], "mean_iou": [0.1, 0.2]}).to_csv(scores, index=False)
    with pytest.raises(ValueError, match=r"x\.images\.csv: not the images of .*val; score that"):
        examples.plot_examples(
            weights[:1], prepared, split="val", count=2, output=tmp_path / "a.png", device="cpu",
            worst=scores,
        )  # fmt: skip
