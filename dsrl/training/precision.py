"""The floating-point type of a training's forward pass."""

import torch

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def low_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that autocast uses; None for float32 throughout.

    Args:
        precision: `bf16`, `fp16`, `fp32`, or `auto`: on a GPU bfloat16 where it has units for it,
            from NVIDIA's Ampere on, otherwise float16; float32 on the CPU.
    """
    if precision != "auto":
        return TYPES[precision]
    if device.type == "cpu":
        return None
    # Emulated, as on a V100 or T4, it is slower than float32.
    has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_units else torch.float16


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Keeps small gradients from vanishing in float16; of no effect in other types."""
    enabled = low_precision(precision, device) == torch.float16
    return torch.amp.GradScaler(device.type, enabled=enabled)
