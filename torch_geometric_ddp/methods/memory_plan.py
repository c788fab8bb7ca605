"""The memory plan: how many classes of a step are computed at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.matching.discrepancy import MULTIPLIERS
from torch_geometric_ddp.matching.sadm import BLOCK_FEATURES, MOST_FEATURES
from torch_geometric_ddp.memory import saved_bytes
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import Parameterization

__all__ = ["MemoryPlan", "class_bytes"]


# What the classes of a chunk may take together. It does not follow the memory that happens to be
# free: a run would not repeat.
_BYTES = 4 << 30


class MemoryPlan:
    """Splits the classes into chunks, by a number that is given or by what a class takes.

    Args:
        classes_per_chunk (int, optional): The number of classes of a chunk. (default: as many as
            4 GiB hold)
        unequal (bool): Whether the classes of a chunk may have different numbers of synthetic
            clouds. Otherwise a chunk ends where the number changes. (default: :obj:`False`)

    Raises:
        TypeError: If :obj:`classes_per_chunk` is no integer.
        ValueError: If it is below one.
    """

    def __init__(self, classes_per_chunk: int | None = None, unequal: bool = False) -> None:
        if classes_per_chunk is not None:
            classes_per_chunk = check_int("classes_per_chunk", classes_per_chunk)
        self.unequal = unequal
        self.classes_per_chunk = classes_per_chunk
        self._bytes_per_class: float | None = None

    @staticmethod
    def together(bytes_per_class: float) -> int:
        """How many classes of so many bytes are computed together."""
        return max(1, int(_BYTES / bytes_per_class))

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
                self._bytes_per_class = class_bytes(network, parameterization, views, batch_size)
            size = self.together(self._bytes_per_class)
        chunks = [slice(i, min(i + size, stop)) for i in range(start, stop, size)]
        counts = parameterization.counts
        if self.unequal or len({*counts[start:stop]}) == 1:
            return chunks
        return [part for chunk in chunks for part in _of_one_number(counts, chunk)]


def _of_one_number(counts: Sequence[int], chunk: slice) -> Iterator[slice]:
    """The parts of a chunk whose classes, one after the other, have the same number of groups."""
    start = chunk.start
    for _, run in itertools.groupby(counts[chunk]):
        stop = start + len([*run])
        yield slice(start, stop)
        start = stop


def class_bytes(
    network: Backbone,
    parameterization: Parameterization,
    views: Mapping[str, Tensor],
    batch_size: int,
) -> float:
    """The bytes that a class takes in a step, from what the network keeps of the largest class.

    With everything on the device "meta" nothing is computed, and no memory taken.

    Args:
        network (Backbone): The network.
        parameterization (Parameterization): The synthetic clouds.
        views (dict): What is compared of the real clouds, with a row for each.
        batch_size (int): Real clouds per class and step.
    """
    largest = parameterization.counts.index(max(parameterization.counts))
    batch, shared = parameterization(slice(largest, largest + 1)), [*network.parameters()]
    ours, clouds = len(batch.pos), batch.num_graphs
    rows = [view[0].numel() // 3 for view in views.values() if view.dim() > 2]
    real, subsets = 3 * batch_size * sum(rows), sum(rows) * clouds // ours
    with seeded(0, batch.pos.device):
        kept = saved_bytes(lambda: network.point_features(batch), shared)
    size = batch.pos.element_size()
    # The features of the real clouds are held twice, and what the layers make of them for a moment.
    theirs = real * (network.point_channels * size + kept / ours / 9)
    # Those of the synthetic ones, with their order and gradients, about eight times, and what the
    # layers keep; or the sorted ones three times, and the others block by block.
    each = 8 * network.point_channels * size + kept / ours
    own = ours * each
    if ours * network.point_channels > MOST_FEATURES:
        own = 3 * ours * network.point_channels * size
        own += BLOCK_FEATURES / network.point_channels * each
    # The kernels of all pairs of clouds, at every bandwidth and with what the gradient needs.
    pairs = clouds * (clouds + 2 * batch_size) * max(1, subsets)
    return theirs + own + 3 * len(MULTIPLIERS) * pairs * size
