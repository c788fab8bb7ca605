"""The random coreset, which every other method has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_ppc, check_seed
from torch_geometric_ddp.coreset.selection import check_stored, counts_that_fit, real_coreset
from torch_geometric_ddp.parameterization import FLOAT32, Codec
from torch_geometric_ddp.quotas import Quotas, check_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["random_coreset"]


def random_coreset(
    dataset: Iterable[Data],
    ppc: float = 1,
    seed: int = 0,
    task: Task | str = "classification",
    num_points: int | None = None,
    codec: Codec = FLOAT32,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    """Chooses real clouds at random.

    None comes twice before all of its class have come once; a class with fewer clouds than fit
    starts again.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (float): The storage, in full-resolution clouds per class. (default: :obj:`1`)
        seed (int): The seed. (default: :obj:`0`)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)
        num_points (int, optional): The points that clouds are reduced to by farthest point
            sampling. (default: none, they stay whole)
        codec (Codec): How clouds are stored; all but single precision stores them scaled to the
            unit ball. (default: :class:`~torch_geometric_ddp.parameterization.Float32`)
        quotas (str or sequence of float): How the storage is divided among the classes, see
            :func:`~torch_geometric_ddp.distill`. (default: :obj:`"uniform"`)

    Returns:
        The chosen clouds, as many as fit.

    Raises:
        TypeError: If :obj:`ppc` is no number or :obj:`seed` no integer.
        ValueError: If :obj:`ppc` is not above 0, :obj:`seed` is negative, the clouds of
            :obj:`dataset` differ in size or are not labelled as :obj:`task` needs them, a class has
            no clouds, nothing fits, or :obj:`quotas` are no known name and not a number above 0 for
            every class, or leave nothing to divide.
    """
    ppc = check_ppc(ppc)
    seed = check_seed("seed", seed)
    task = find_task(task)
    num_points = check_stored(num_points, codec)
    check_quotas(quotas)
    bank = task.read(dataset)
    counts = counts_that_fit(bank, ppc, num_points, codec, quotas)
    index = bank.draw(max(counts), torch.Generator().manual_seed(seed))
    provenance = {"method": "random", "seed": seed}
    return real_coreset(bank, index, provenance, task, ppc, num_points, codec, counts, quotas)
