"""A process that works for another one: one thread, and an end with the one that it works for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

import torch

from torch_geometric_ddp.memory import keep_freed_memory

__all__ = ["begin_worker"]


def begin_worker() -> None:
    """Makes a process that was started by :obj:`multiprocessing` a worker.

    If the process that started it dies, which leaves it no time to say so, this one is terminated
    as by SIGTERM: a distillation writes its checkpoint first.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
