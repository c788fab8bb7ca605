"""The processes of one program on many ranks, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType

__all__ = ["joined"]

# The others wait while the first one trains networks. A process that ends is noticed at once.
_PATIENCE = timedelta(days=30)


@contextmanager
def joined(name: str, module: ModuleType) -> Iterator[None]:
    """Makes one group of all processes that were started together.

    They are told by the variables ``RANK`` and ``WORLD_SIZE``, with ``MASTER_ADDR`` and
    ``MASTER_PORT`` for where they meet, as torchrun sets them. Each has the GPU ``LOCAL_RANK``.

    Args:
        name (str): What the program is called.
        module (module): The program. One that many ranks share says so by :obj:`RANKS`: of all but
            the first, it only helps to distil.

    Raises:
        ValueError: If there are several processes, and the program does not share its work.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if not getattr(module, "RANKS", False):
        raise ValueError(
            f"'{name}' makes runs that need no other process: start it without torchrun; "
            "--workers, where there is one, makes several runs at a time"
        )
    import torch
    import torch.distributed as dist

    from torch_geometric_ddp.methods.ranks import Ranks

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
        if (ranks := Ranks.here()).first:
            ranks.from_first(None)  # There is no more to do.
    finally:
        dist.destroy_process_group()
