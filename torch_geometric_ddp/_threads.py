"""A loop over independent pieces of work that release the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


def thread_map(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Applies the function to every item, on as many threads as torch uses, in order."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))
