"""Commands that apply a network: test, predict, export."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl.cli.options import (
    Arguments,
    Parser,
    UsageError,
    add_command,
    add_data,
    add_device,
    add_split,
    data_of_weights,
    file_named,
    finite_number,
    whole_number,
)
from dsrl.system.files import keep_inputs, sha256, write_text

if TYPE_CHECKING:
    from dsrl.data.images import ImageReader


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add_test(commands)
    add_predict(commands)
    add_export(commands)


def add_test(commands: Any) -> None:
    parser = add_command(commands, "test", test, "predict one image and show the result")
    parser.add_input("--image-file", required=True, metavar="FILE", help="image of any size")
    add_weights(parser)
    add_reading(parser)
    parser.add_output(
        "--output",
        type=file_named(".png"),
        help="image file to write (default: outputs/<name of the image>.png)",
    )
    add_device(parser)


def test(arguments: Arguments) -> None:
    from dsrl.figures.sheet import write_sheet
    from dsrl.inference.predictor import Predictor

    image = arguments.image_file
    output = arguments.output or Path("outputs", f"{image.stem}.png")
    with reader_of(arguments) as reader:
        write_sheet(image, Predictor(arguments.weights, arguments.device), output, reader)
    print(output)


def add_predict(commands: Any) -> None:
    parser = add_command(
        commands, "predict", predict, "write predictions for images or for a prepared split"
    )
    parser.add_input(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders of images, animations (GIF, WebP, APNG, AVIF) or videos (MP4, AVI, "
        "MOV, MKV, WebM), which are predicted frame by frame; without any, a prepared split",
    )
    add_weights(parser)
    add_reading(parser)
    add_data(parser, "weights")
    add_split(parser)
    parser.add_output("--output", folder=True, required=True, help="folder to write to")
    parser.add_argument(
        "--format",
        choices=("color", "overlay", "train-ids", "cityscapes", "probabilities"),
        default="color",
        help="contents of the files; overlay: the colours over the image; cityscapes: label ids in "
        "<name>_pred.png, as the Cityscapes evaluation reads them; probabilities: those of each "
        "class, in <name>.npz (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=whole_number,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the predictions (default: those of each image, or in a prepared "
        "split of its label file)",
    )
    parser.add_argument(
        "--tiles",
        action="store_true",
        help="predict images that are larger than the network's output in overlapping tiles of its "
        "size, for more detail",
    )
    parser.add_argument(
        "--film",
        action="store_true",
        help="of each video, also join the predictions of its frames to <name>.mp4; for the "
        "formats color and overlay",
    )
    parser.add_output(
        "--summary",
        type=file_named(".json"),
        metavar="FILE",
        help="JSON file to write, with the share of each class in each image and in all",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that were not made from the same images, weights, format, size and "
        "tiles",
    )
    add_device(parser)


def predict(arguments: Arguments) -> None:
    from dsrl.inference.film import is_video, write_film
    from dsrl.inference.plan import Source, Target, plan, sources_of_files, sources_of_split
    from dsrl.inference.predictor import Predictor, write_predictions
    from dsrl.inference.summary import summary

    if arguments.images and arguments.data is not None:
        raise UsageError("give either images or --data")
    if arguments.film and arguments.format not in ("color", "overlay"):
        raise UsageError(f"--film is for the formats color and overlay, not {arguments.format}")
    sources: Sequence[Source]
    with reader_of(arguments) as reader:
        if arguments.images:
            sources = sources_of_files(arguments.images, reader)
        else:
            data = data_of_weights(arguments, arguments.weights)
            sources = sources_of_split(data, arguments.dataset_split)
        target = Target(
            arguments.output,
            arguments.format,
            sha256(arguments.weights),
            arguments.overwrite,
            arguments.size and tuple(arguments.size),
            arguments.tiles,
        )
        with keep_inputs(source.path for source in sources):
            needed = plan(sources, target)
            predictor = Predictor(arguments.weights, arguments.device)
            failed = write_predictions(predictor, needed, target, done=len(sources) - len(needed))
            for source in filter(is_video, sources) if arguments.film else ():
                if path := write_film(source, target):
                    print(f"{path}: written", file=sys.stderr)
            if arguments.summary is not None:
                shares = summary(sources, target, predictor.classes)
                write_text(arguments.summary, json.dumps(shares, indent=2) + "\n")
    if failed:
        raise ValueError(f"{failed} of {len(needed)} images could not be predicted; see above")


def add_export(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        export,
        "export the network from uint8 images to labels, to ONNX or .pt2",
    )
    add_weights(parser)
    parser.add_output(
        "--output", required=True, help=".onnx file, or .pt2 file of torch.export, to write"
    )
    parser.add_input(
        "--image-file",
        metavar="FILE",
        help="image on which the file is compared with `dsrl predict` (default: a drawn street)",
    )


def export(arguments: Arguments) -> None:
    from dsrl.inference.arrays import to_arrays
    from dsrl.inference.export import export

    path = arguments.image_file
    image = None if path is None else to_arrays(path)[0]
    print(*export(arguments.weights, arguments.output, image), sep="\n")


def add_weights(parser: Parser) -> None:
    parser.add_input("--weights", required=True, help="weights or a checkpoint of any stage")


def add_reading(parser: Parser) -> None:
    parser.add_argument(
        "--value-range",
        type=finite_number,
        nargs=2,
        metavar=("BLACK", "WHITE"),
        help="values of black and white in images of more than 8 bits per channel, such as 0 4095 "
        "(default: as the file says)",
    )
    parser.add_argument(
        "--max-pixels",
        type=whole_number,
        metavar="N",
        help="pixels that an image may have (default: as many as Pillow allows, about 179 million)",
    )


@contextmanager
def reader_of(arguments: Arguments) -> Iterator["ImageReader"]:
    """What reads images as the options say, and in the end reports on them."""
    from dsrl.data.images import ImageReader, pixel_limit

    black, white = arguments.value_range or (0, 1)
    if black >= white:
        raise UsageError(f"argument --value-range: {black:g} is not below {white:g}")
    reader = ImageReader(arguments.value_range and (black, white))
    with pixel_limit(arguments.max_pixels):
        yield reader
    reader.print_notes()  # an error is one line, without them
