"""Export the network to a file that runs without this project: ONNX, or torch.export's `.pt2`.

Both have the same form: the input `image` is uint8 (N, 3, H, W), RGB, of any N, H and W; the output
`labels` is uint8 (N, H, W), train ids. Resizing and normalisation are inside.
"""

import json
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import dsrl
from dsrl.checkpoints.weights import WeightsInfo
from dsrl.data.transforms import InputTransform, normalise, resize_images
from dsrl.inference.placing import Place, size_of
from dsrl.inference.predictor import Predictor
from dsrl.models.dsrl import DSRL
from dsrl.system.files import atomic_file

SUFFIXES = (".onnx", ".pt2")
AGREEMENT = 0.99  # share of pixels; all but those where two classes are nearly equal

Run = Callable[[np.ndarray], np.ndarray]  # uint8 (N, 3, H, W) -> uint8 (N, H, W)


class ImagesToLabels(nn.Module):
    """The network with all that `Predictor` does before and after it.

    Args:
        transform: that of the network, on the CPU.
    """

    def __init__(self, network: DSRL, transform: InputTransform):
        super().__init__()
        self.network = network
        self.input_size, self.fit = transform.input_size, transform.fit
        self.register_buffer("mean", transform.mean)
        self.register_buffer("std", transform.std)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> uint8 (N, H, W)."""
        assert isinstance(self.mean, Tensor) and isinstance(self.std, Tensor)
        if self.fit == "pad":
            return self._padded(image)
        # Resized even if the size is right: a condition would fix the size of the exported network.
        images = resize_images(image.float(), self.input_size)
        logits = self.network(normalise(images, self.mean, self.std)).logits
        size = (image.shape[-2], image.shape[-1])
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)

    def _padded(self, image: Tensor) -> Tensor:
        """The same with `fit: pad`."""
        assert isinstance(self.mean, Tensor) and isinstance(self.std, Tensor)
        sides = [torch.arange(length, dtype=torch.float64) + 0.5 for length in image.shape[2:]]
        pairs = list(zip(sides, self.input_size, strict=True))
        scale = torch.minimum(*(frame / size_of(side) for side, frame in pairs))
        places = [Place.of(side, frame, scale) for side, frame in pairs]
        rows, columns = (place.shrink().float() for place in places)
        pixels = normalise(image, self.mean, self.std)
        logits = self.network(rows @ pixels @ columns.T).logits
        for dim, place in enumerate(places, start=2):
            logits = place.enlarge(logits, dim)
        return logits.argmax(1).to(torch.uint8)


def export(weights: Path, output: Path, image: np.ndarray | None = None) -> list[str]:
    """Write the inference network of a file to `output`, after a comparison with `Predictor`.

    The file holds classes, colours, sizes and more, as the weights file does: in the metadata of
    ONNX, each as text or JSON; in `.pt2`, in the extra file `info.json`.

    Args:
        weights: weights or a checkpoint of any stage.
        output: path that ends in `.onnx` or `.pt2`.
        image: uint8 (h, w, 3), RGB, on which both are compared; by default, a drawn street.

    Returns:
        Lines that say what was written, and how far both agree.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the weights are damaged, `output` has another suffix, a package is missing, or
            the exported network predicts something else. Then nothing is written.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(
            f"{output}: unsupported export format; choose a name that ends in "
            f"{' or '.join(SUFFIXES)}"
        )
    if output.suffix == ".onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise ValueError(
            f"{output}: writing ONNX needs onnx and onnxscript (the extra `onnx`); install them "
            "with `pip install onnx onnxscript onnxruntime`"
        )
    predictor = Predictor(weights, "cpu")
    name = "a given image"
    if image is None:
        name, image = "a drawn street", _street(predictor.info)
    # The file is opened first, so that an unwritable path fails before the slow export.
    with atomic_file(output) as temporary, temporary.open("wb") as file:
        program = _trace(predictor)
        if output.suffix == ".onnx":
            file.write(_onnx(program, predictor.info))
        else:
            extra_files = {"info.json": predictor.info.model_dump_json()}
            # It accepts a path only if it ends in .pt2, which the temporary one does not.
            torch.export.save(program, file, extra_files=extra_files)
        file.flush()
        run = _runtime(temporary) if output.suffix == ".onnx" else _module(temporary)
        agreement = f"not verified: {output.suffix} needs onnxruntime, which is not installed"
        if run is not None:
            labels = run(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))[0]
            same = np.mean(labels == predictor.predict(image))
            height, width = image.shape[:2]
            text = f"{same:.2%} of the labels of {name} of {height}x{width} are those of "
            agreement = f"verified: {text}`dsrl predict`"
            if same < AGREEMENT:
                raise ValueError(f"{output}: not written, as only {text}PyTorch; please report it")
        size = temporary.stat().st_size / 1e6
    height, width = predictor.input_size
    return [
        f"{output}: {size:.1f} MB, {len(predictor.classes)} classes",
        f"input: image, uint8 RGB (N, 3, H, W), any N, H and W; the network sees {height}x{width}",
        "output: labels, uint8 (N, H, W), train ids",
        agreement,
    ]


def _street(info: WeightsInfo) -> np.ndarray:
    """uint8 (h, w, 3), of a size that is neither the network's input nor its output; where that
    makes a difference, of another aspect ratio."""
    from dsrl.demo.street import draw_street

    height, width = info.input_size
    street = draw_street(3 * height, 3 * width, np.random.default_rng(0))[0]
    return street if info.fit == "stretch" else street[:, :width]


def _trace(predictor: Predictor) -> ExportedProgram:
    module = ImagesToLabels(predictor.network, predictor.info.transform).eval()
    module.to(memory_format=torch.contiguous_format)
    # torch.export would take a batch of one for a constant.
    example = torch.zeros(2, 3, 50, 70, dtype=torch.uint8)
    sizes = {0: Dim("N"), 2: Dim("H"), 3: Dim("W")}
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes={"image": sizes})


def _onnx(program: ExportedProgram, info: WeightsInfo) -> bytes:
    """An ONNX file."""
    import onnx.helper

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):  # of PyTorch, about itself
            exported = torch.onnx.export(
                program, input_names=["image"], output_names=["labels"], verbose=False
            )
    finally:
        log.setLevel(level)
    assert exported is not None
    model = exported.model_proto
    del model.graph.value_info[:]  # the sizes of what lies between, under names of no meaning
    for value, names in ((model.graph.input[0], "NCHW"), (model.graph.output[0], "NHW")):
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if dim.dim_param:
                dim.dim_param = name
    model.producer_name, model.producer_version = "dsrl", dsrl.__version__
    values = json.loads(info.model_dump_json())  # with null for NaN, which JSON does not have
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    onnx.helper.set_model_props(model, texts)
    return model.SerializeToString()


def _runtime(path: Path) -> Run | None:
    """How ONNX Runtime runs a file; None if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["labels"], {"image": image})[0]


def _module(path: Path) -> Run:
    """How PyTorch runs a file."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda image: module(torch.from_numpy(image.copy())).numpy()
