"""The memory plan: how many classes of a step are computed at a time."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.memory import saved_bytes
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import Parameterization

__all__ = ["MemoryPlan"]


# What the classes of a chunk may take together. It does not follow the memory that happens to be
# free: a run would not repeat.
_BYTES = 4 << 30


class MemoryPlan:
    """Splits the classes into chunks, by a number that is given or by what a class takes.

    Args:
        classes_per_chunk (int, optional): The number of classes of a chunk. (default: as many as
            4 GiB hold)

    Raises:
        TypeError: If :obj:`classes_per_chunk` is no integer.
        ValueError: If it is below one.
    """

    def __init__(self, classes_per_chunk: int | None = None) -> None:
        if classes_per_chunk is not None:
            check_int("classes_per_chunk", classes_per_chunk)
        self.classes_per_chunk = classes_per_chunk
        self._bytes_per_class: float | None = None

    def chunks(
        self,
        network: Backbone,
        parameterization: Parameterization,
        views: Mapping[str, Tensor],
        batch_size: int,
        within: slice = slice(None),
    ) -> list[slice]:
        """Whole classes that are computed together; all of them where they fit.

        Args:
            network (Backbone): The network of the step; all have layers of the same sizes.
            parameterization (Parameterization): The synthetic clouds.
            views (dict): What is compared of the real clouds, with a row for each.
            batch_size (int): Real clouds per class and step.
            within (slice): Which classes are computed. (default: all)
        """
        start, stop, _ = within.indices(parameterization.num_classes)
        size = self.classes_per_chunk
        if size is None:
            if self._bytes_per_class is None:
                self._bytes_per_class = _measure(network, parameterization, views, batch_size)
            size = max(1, int(_BYTES / self._bytes_per_class))
        return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]


def _measure(
    network: Backbone,
    parameterization: Parameterization,
    views: Mapping[str, Tensor],
    batch_size: int,
) -> float:
    """The bytes that a class takes in a step, from what the network keeps of one class."""
    batch, shared = parameterization(slice(0, 1)), [*network.parameters()]
    ours = len(batch.pos)
    real = batch_size * sum(view[0].numel() for view in views.values() if view.dim() > 2)
    with seeded(0, batch.pos.device):
        kept = saved_bytes(lambda: network.point_features(batch), shared)
    # The features of the real clouds are held twice, those of the synthetic ones, with their order
    # and gradients, about eight times.
    floats = (real + 8 * ours) * network.point_channels
    # And what the layers keep; without a gradient, some of it is there for a moment.
    layers = (real / 9 + ours) * kept / ours
    return floats * batch.pos.element_size() + layers
