"""The random coreset, which every other method has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_ppc, check_seed
from torch_geometric_ddp.coreset.selection import check_stored, real_coreset
from torch_geometric_ddp.parameterization import FLOAT32, Codec, FullResolution
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
) -> SyntheticPointCloudDataset:
    """Chooses real clouds at random, as many of every class.

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

    Returns:
        The chosen clouds, as many per class as fit.

    Raises:
        TypeError: If :obj:`ppc` is no number or :obj:`seed` no integer.
        ValueError: If :obj:`ppc` is not above 0, :obj:`seed` is negative, the clouds of
            :obj:`dataset` differ in size or are not labelled as :obj:`task` needs them, or nothing
            fits.
    """
    check_ppc(ppc)
    check_seed("seed", seed)
    task = find_task(task)
    check_stored(num_points, codec)
    bank = task.read(dataset)
    num = FullResolution.clouds_that_fit(bank.budget(ppc), num_points, codec)
    index = bank.draw(num, torch.Generator().manual_seed(seed))
    provenance = {"method": "random", "seed": seed}
    return real_coreset(bank, index, provenance, task, ppc, num_points, codec)
