"""A cache of what functions computed of a bank."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["ViewCache"]


class ViewCache:
    """The last few results of every function, by the function and its arguments.

    Nothing can get the result of another function or of other arguments, as nobody has to think of
    a key.

    Args:
        num (int): How many results of one function are kept, those that were asked for last.
            (default: :obj:`4`)
    """

    def __init__(self, num: int = 4) -> None:
        self.num = num
        self._results: dict[Callable[..., Any], OrderedDict[Hashable, Any]] = defaultdict(
            OrderedDict
        )

    def get(self, function: Callable[..., Any], args: Hashable, make: Callable[[], Any]) -> Any:
        """The result of a function for some arguments, made by :obj:`make` if it is not there.

        Raises:
            TypeError: If an argument is not hashable.
        """
        results = self._results[function]
        if args not in results:
            results[args] = make()
        results.move_to_end(args)
        while len(results) > self.num:
            results.popitem(last=False)
        return results[args]
