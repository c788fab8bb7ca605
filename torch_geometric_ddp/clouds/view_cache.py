"""A cache of what functions computed of a bank."""

from __future__ import annotations

import hashlib
import json
import types
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp._files import replacing
from torch_geometric_ddp._identity import describe_code
from torch_geometric_ddp._version import versions

__all__ = ["ViewCache"]

# Other files are not read.
_FORMAT = 1


class ViewCache:
    """The last few results of every function, by the function and its arguments.

    Nothing can get the result of another function or of other arguments, as nobody has to think of
    a key.
    """

    def __init__(self) -> None:
        #: How many results of one function are kept, those that were asked for last.
        self.num = 4
        #: Where tensors are kept beyond this process, with what tells the clouds from others.
        self.folder: Path | None = None
        self.content = ""
        self._results: dict[Callable[..., Any], OrderedDict[Hashable, Any]] = defaultdict(
            OrderedDict
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without results, which another process computes again or finds in the folder."""
        return {**vars(self), "_results": defaultdict(OrderedDict)}

    def get(
        self, function: Callable[..., Any], args: tuple[Hashable, ...], make: Callable[[], Any]
    ) -> Any:
        """The result of a function for some arguments, made by :obj:`make` if it is not there.

        Raises:
            TypeError: If an argument is not hashable.
        """
        results = self._results[function]
        key = tuple((type(arg), arg) for arg in args)  # 1, 1.0 and True are equal.
        if key not in results:
            results[key] = self._found(function, args, make)
        results.move_to_end(key)
        while len(results) > self.num:
            results.popitem(last=False)
        return results[key]

    def _found(
        self, function: Callable[..., Any], args: tuple[Hashable, ...], make: Callable[[], Any]
    ) -> Any:
        plain = all(isinstance(arg, bool | int | float | str) for arg in args)
        # Only of a function it is known what it does.
        if self.folder is None or not plain or not isinstance(function, types.FunctionType):
            return make()
        told = [versions(), self.content, function.__module__, describe_code(function)]
        key = json.dumps([_FORMAT, *told, *args])
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if (known := _mapped(path)) is not None:
            return known
        result = make()
        if not isinstance(result, Tensor) or result.device.type != "cpu":
            return result
        try:
            array = result.detach().numpy()
        except TypeError:  # NumPy has no such numbers, say bfloat16.
            return result
        try:
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, array)
        except OSError as error:  # What was computed is not lost by it.
            text = f"what {function.__qualname__} computed could not be kept in '{path}': {error}"
            warnings.warn(text, stacklevel=4)
        known = _mapped(path)
        return result if known is None else known


def _mapped(path: Path) -> Tensor | None:
    """The tensor of a file, read where it is used; :obj:`None` where there is no whole file."""
    try:
        # What is written to it, which nothing does, would stay in memory.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError):
        return None
