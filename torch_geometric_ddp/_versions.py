"""What a result was made with."""

from __future__ import annotations

import torch
import torch_geometric

import torch_geometric_ddp


def versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    return {
        "torch_geometric_ddp": torch_geometric_ddp.__version__,
        "torch": str(torch.__version__),
        "torch_geometric": torch_geometric.__version__,
    }
