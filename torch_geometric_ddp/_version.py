"""The version of this package, and those that a result depends on."""

from __future__ import annotations

__all__ = ["__version__", "versions"]

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    import torch  # Here, as the command line says its version without waiting for them.
    import torch_geometric

    return {
        "torch_geometric_ddp": __version__,
        "torch": str(torch.__version__),
        "torch_geometric": torch_geometric.__version__,
    }
