"""Score a network on a split: whole images, in float32."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dsrl.data.dataset import EvaluationSet, PreparedSplit, network_inputs, output_labels
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.transforms import InputTransform, labels_of_logits
from dsrl.evaluation.class_map import ClassMap
from dsrl.evaluation.metrics import ConfusionMatrix
from dsrl.system import distributed

EVALUATION_BATCH = 8  # images; the scores do not depend on it
BOUNDARY = 3  # pixels


@dataclass(frozen=True)
class Scores:
    """Shares are in 0..1, and NaN where no pixel was counted."""

    pixel_accuracy: float
    mean_iou: float
    mean_iou_per_image: float
    cross_entropy: float  # nats per labelled pixel of a class that can be predicted
    mean_iou_native: float  # at the native size of the labels; NaN unless requested
    boundary_iou: float  # mean IoU of the pixels near another class; NaN unless requested
    per_class_iou: list[float]
    class_pixels: list[int]  # labelled pixels of each class, at the output size
    confusion: list[list[int]]  # pixels of each true class by prediction, at the output size
    image_accuracy: list[float]  # of each image, in the order of the split
    image_iou: list[list[float]]  # of each image, and in it of each class


@torch.no_grad()
def evaluate(
    network: nn.Module,
    split: PreparedSplit,
    transform: InputTransform,
    device: torch.device,
    *,
    batch_size: int = EVALUATION_BATCH,
    native: bool = False,
    boundaries: bool = False,
    class_map: ClassMap | None = None,
    each_batch: Callable[[], None] = lambda: None,
) -> Scores:
    """Score `network` on all images of `split`, at its output size.

    Under torchrun each process scores its share of the images, and all return the scores of the
    whole split. Labels stored at another size are resized to the output size (nearest). Padding
    counts nowhere.

    Args:
        network: in eval mode returns a tuple with `logits` (B, C, 2H, 2W).
        transform: on `device`.
        native: also resize the logits (bilinear) to the native size of the labels, and compare
            there what `dsrl predict` writes, as the official Cityscapes evaluation does.
        boundaries: also compute the mean IoU of only those pixels that are near another class; see
            `near_another_class`.
        class_map: where the network has other classes than `split`. What the network predicts is
            the class with the largest of its own logits, as always, and then mapped; where it maps
            to no class of the data, the prediction is wrong. A class of the data that nothing maps
            to has no IoU, and no part in the means; its pixels count as wrong in the accuracy. The
            cross entropy is that of the summed probabilities of the classes that are mapped to the
            label, over the pixels of the classes that have any. The confusion has a last column
            for predictions that are none of the data's classes.
        each_batch: called before each batch; may raise to stop the evaluation.
    """
    was_training = network.training
    network.eval()
    share = range(distributed.rank(), len(split), distributed.world_size())
    classes = len(split.manifest.classes)
    not_scored = class_map.not_scored if class_map else []
    values = classes + (class_map is not None)  # with "none of them", which is in no label
    confusion = ConfusionMatrix(values, IGNORE_INDEX, not_scored).to(device)
    boundary_confusion = ConfusionMatrix(values, IGNORE_INDEX, not_scored).to(device)
    native_confusion = ConfusionMatrix(values, IGNORE_INDEX, not_scored)
    cross_entropy = torch.zeros((), dtype=torch.float64, device=device)
    image_accuracy = torch.zeros(len(split), dtype=torch.float64, device=device)
    image_iou = torch.zeros(len(split), classes, dtype=torch.float64, device=device)
    seen = 0
    # Its own generator, so that validation draws no random numbers from that of the training.
    loader = DataLoader(
        EvaluationSet(split, share), batch_size=batch_size, generator=torch.Generator()
    )
    for images, labels in loader:
        each_batch()
        found = share[seen : seen + len(images)]
        logits = network(network_inputs(split, found, images.to(device), transform)).logits.float()
        labels = output_labels(split, found, labels.to(device), transform)
        if native:
            for index, each in zip(found, logits.split(1), strict=True):
                label = torch.from_numpy(split.native_label(index))[None]
                size = (label.shape[1], label.shape[2])
                rows, columns = transform.box(size, scale=2).window
                prediction = labels_of_logits(each[..., rows, columns], size)
                if class_map:
                    prediction = class_map.train_ids(prediction.long())
                native_confusion.update(prediction.byte().cpu(), label)
        predictions, targets = logits.max(1).indices, labels  # argmax is slower on the CPU
        if class_map:
            predictions, logits = class_map.train_ids(predictions), class_map.joined(logits)
            targets = class_map.possible(labels)
        predictions = predictions.byte()  # which count faster than int64
        counts = confusion.update(predictions, labels)
        image_accuracy[list(found)] = confusion.accuracy_of(counts)
        image_iou[list(found)] = confusion.iou_of(counts)[:, :classes]
        if boundaries:
            away = ~near_another_class(labels, BOUNDARY)
            boundary_confusion.update(predictions, labels.masked_fill(away, IGNORE_INDEX))
        cross_entropy += F.cross_entropy(
            logits, targets.long(), ignore_index=IGNORE_INDEX, reduction="sum"
        ).double()
        seen += len(images)
    network.train(was_training)
    native_confusion.to(device)
    for sums in (
        *(*confusion.counts, *native_confusion.counts, *boundary_confusion.counts),
        *(cross_entropy, image_accuracy, image_iou),
    ):
        distributed.sum_over_processes(sums)
    class_pixels = confusion.matrix.sum(1)[:classes]
    predictable = [c for c in range(classes) if c not in not_scored]
    return Scores(
        confusion.pixel_accuracy,
        confusion.mean_iou,
        confusion.mean_iou_per_image,
        float(cross_entropy / class_pixels[predictable].sum()),
        native_confusion.mean_iou,
        boundary_confusion.mean_iou,
        confusion.per_class_iou[:classes].tolist(),
        class_pixels.tolist(),
        confusion.matrix[:classes].tolist(),
        image_accuracy.tolist(),
        image_iou.tolist(),
    )


def near_another_class(labels: Tensor, distance: int) -> Tensor:
    """Where a pixel of another class is at most `distance` rows and columns away, as in the
    trimaps of Kohli et al. (IJCV 2009). Ignored pixels are of no class.

    Args:
        labels: uint8 (N, H, W), train ids.

    Returns:
        bool (N, H, W).
    """
    ignored = labels == IGNORE_INDEX
    highest = labels.float().masked_fill(ignored, -1)
    lowest = -labels.float().masked_fill(ignored, IGNORE_INDEX)
    size = 2 * distance + 1
    for window in ((1, size), (size, 1)):
        padding = tuple(side // 2 for side in window)
        highest, lowest = (
            F.max_pool2d(x, window, stride=1, padding=padding) for x in (highest, lowest)
        )
    return (highest > -lowest) & ~ignored
