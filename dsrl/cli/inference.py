"""Commands that apply a network: test, predict, export."""

from pathlib import Path
from typing import Any

from dsrl.cli.options import (
    Arguments,
    UsageError,
    add_command,
    add_data,
    add_device,
    add_split,
    data_of_weights,
    file_named,
)


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_test(commands)
    add_predict(commands)
    add_export(commands)


def add_test(commands: Any) -> None:
    parser = add_command(commands, "test", test, "predict one image, and picture the result")
    parser.add_argument("--image-file", type=Path, required=True, metavar="FILE", help="any image")
    add_weights(parser)
    parser.add_argument(
        "--output",
        type=file_named(".png"),
        help="picture to write (default: outputs/<name of the image>.png)",
    )
    add_device(parser)


def test(arguments: Arguments) -> None:
    from dsrl.figures.sheet import picture_prediction
    from dsrl.inference.predictor import Predictor

    image = arguments.image_file
    output = arguments.output or Path("outputs", f"{image.stem}.png")
    picture_prediction(image, Predictor(arguments.weights, arguments.device), output)
    print(output)


def add_predict(commands: Any) -> None:
    parser = add_command(
        commands, "predict", predict, "write the predictions of images, or of a prepared split"
    )
    parser.add_argument(
        "images",
        type=Path,
        nargs="*",
        metavar="IMAGE",
        help="files, folders of them, animations (GIF, WebP, APNG) or films (MP4, AVI, MOV, MKV, "
        "WebM), frame by frame; of none, a prepared split",
    )
    add_weights(parser)
    add_data(parser, "weights")
    add_split(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument(
        "--format",
        choices=("color", "train-ids", "cityscapes"),
        default="color",
        help="of the pictures; cityscapes: <name>_pred.png of label ids, as its evaluation wants",
    )
    add_device(parser)


def predict(arguments: Arguments) -> None:
    from dsrl.inference import predictor as inference

    predictor = inference.Predictor(arguments.weights, arguments.device)
    if arguments.images:
        if arguments.data is not None:
            raise UsageError("give either images or --data")
        pictures = inference.pictures_of_files(arguments.images)
    else:
        data = data_of_weights(arguments, arguments.weights)
        pictures = inference.pictures_of_split(data, arguments.dataset_split)
    inference.predict(predictor, pictures, arguments.output, arguments.format)


def add_export(commands: Any) -> None:
    parser = add_command(
        commands, "export", export, "write the inference network as a .pt2 file of torch.export"
    )
    add_weights(parser)
    parser.add_argument("--output", type=Path, required=True, help="file to write")


def export(arguments: Arguments) -> None:
    from dsrl.inference.export import export

    export(arguments.weights, arguments.output)


def add_weights(parser: Any) -> None:
    parser.add_argument(
        "--weights", type=Path, required=True, help="weights or a checkpoint of any stage"
    )
