"""Precision of matrix products and convolutions."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bf16"]


def resolve_precision(name: Literal["auto", "float32", "bf16"], device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware multiplies it natively, and float32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if native() else "float32"


def matrix_products(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16: factors are rounded, sums, losses and weights stay float32. Nothing for float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
