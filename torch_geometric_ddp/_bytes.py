"""The bytes of tensors, as digests and files take them."""

from __future__ import annotations

import torch
from torch import Tensor


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on any device, without a copy where it lies in one piece on the CPU.

    Also of types that NumPy lacks.
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data
