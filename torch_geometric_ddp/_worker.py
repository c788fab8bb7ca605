"""A process that works for another one: one thread, and an end with the one that it works for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait

import torch

from torch_geometric_ddp.memory import keep_freed_memory

__all__ = ["WHY_DIED", "begin_worker", "end_after"]

#: What an error says of a process that died.
WHY_DIED = (
    "Either the memory did not suffice for so many 'workers', or the program that asks for them is "
    'not inside of `if __name__ == "__main__":`'
)


def begin_worker() -> None:
    """Makes a process that was started by :obj:`multiprocessing` a worker.

    If the process that started it dies, which leaves it no time to say so, this one is terminated
    as by SIGTERM: a distillation writes its checkpoint first.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_after(partial(wait, [parent.sentinel]))


def end_after(ended: Callable[[], object]) -> None:
    """Terminates this process as by SIGTERM as soon as another one has ended.

    Args:
        ended (callable): Returns when that one has ended, called by a thread that only waits.
    """

    def end() -> None:
        ended()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
