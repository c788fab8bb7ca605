"""The class index: which clouds each class has, and draws of as many from every class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_int

__all__ = ["ClassIndex"]

# Classes without clouds that an error names.
_SHOWN = 10


class ClassIndex:
    r"""Takes clouds of every class, as indices :obj:`[C, num]`.

    Args:
        y (torch.Tensor): The labels :obj:`[n]`, integers from 0 to below the number of classes.
        class_names (sequence of str): The names of the :math:`C` classes.
    """

    def __init__(self, y: Tensor, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        #: How many clouds every class has, :obj:`[C]`.
        self.counts = torch.zeros(len(class_names), dtype=torch.long, device=y.device)
        self.counts.scatter_add_(0, y.long(), torch.ones_like(self.counts[:1]).expand(len(y)))
        order, ends = y.argsort(stable=True), self.counts.cumsum(0)
        places = torch.arange(int(self.counts.max()), device=y.device)
        slots = (ends - self.counts)[:, None] + places
        # Read once, and not in every draw.
        self._missing: list[int] = (self.counts == 0).nonzero().flatten().tolist()
        #: The clouds of every class in the order of the data set, :obj:`[C, most]`. Rows of smaller
        #: classes are filled up with any clouds.
        self.members = order[slots.clamp_max(len(y) - 1)]
        #: What is filled up, a mask :obj:`[C, most]` on the CPU.
        self.absent = (places >= self.counts[:, None]).cpu()

    def check(self) -> None:
        """Refuses classes without clouds.

        Raises:
            ValueError: If a class has none.
        """
        if self._missing:
            names = [f"{i} ({self.class_names[i]})" for i in self._missing]
            if len(names) > _SHOWN:
                names[_SHOWN:] = [f"{len(names) - _SHOWN} more"]
            raise ValueError(f"every class must have a cloud, got none of class {', '.join(names)}")

    def draw(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws clouds of every class at random, as indices :obj:`[C, num]`.

        No cloud comes twice before all of its class have come once; a class with fewer than
        :obj:`num` clouds starts again.

        Args:
            num (int): The number of clouds of each class.
            generator (torch.Generator, optional): A generator on the CPU. (default: the global)

        Raises:
            ValueError: If :obj:`num` is below one, or a class has no clouds.
        """
        # On the CPU, so that a seed means the same on every device.
        keys = torch.rand(self.absent.shape, generator=generator).masked_fill_(self.absent, 2.0)
        order = _first_of(keys, check_int("num", num)).to(self.members.device)
        return self.cycle(self.members.gather(1, order), num)

    def smallest(self, keys: Tensor, num: int) -> Tensor:
        """The clouds of every class with the smallest keys, as indices :obj:`[C, num]`.

        They come in ascending order, equal ones in that of the data set; a class with fewer than
        :obj:`num` clouds starts again.

        Args:
            keys (torch.Tensor): A floating point number for every cloud, :obj:`[n]`, not NaN.
            num (int): The number of clouds of each class.

        Raises:
            ValueError: If :obj:`num` is below one, or a class has no clouds.
        """
        # Stable, so that even after infinite keys what is absent comes last.
        rows = keys[self.members].masked_fill(self.absent.to(keys.device), float("inf"))
        return self.cycle(self.members.gather(1, rows.argsort(dim=1, stable=True)), num)

    def cycle(self, index: Tensor, num: int) -> Tensor:
        """The first :obj:`num` of the clouds :obj:`index [C, k]`, as indices :obj:`[C, num]`.

        A class with fewer than :obj:`num` clouds starts again from its first.

        Raises:
            ValueError: If :obj:`num` is below one, or a class has no clouds.
        """
        check_int("num", num)
        self.check()
        rank = torch.arange(num, device=index.device) % self.counts[:, None]
        return index.gather(1, rank)


def _first_of(keys: Tensor, num: int) -> Tensor:
    """Where the smallest keys below 1 of every row lie, :obj:`[C, num]` or all of them.

    They are those of sorting all, which takes ten times as long for thousands of keys.
    """
    if num >= keys.size(1):
        return keys.argsort(dim=1)
    values, places = keys.topk(num + 1, dim=1, largest=False)
    # Of equal ones either may come first, and be the last one.
    ties = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] < 1)
    return keys.argsort(dim=1)[:, :num] if bool(ties.any()) else places[:, :num]
