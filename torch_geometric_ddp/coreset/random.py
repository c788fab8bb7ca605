"""The coreset that every other method has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.coreset.selection import real_coreset
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["random_coreset"]


def random_coreset(
    dataset: Iterable[Data], ppc: int = 1, seed: int = 0, task: Task | str = "classification"
) -> SyntheticPointCloudDataset:
    """Chooses real clouds at random, as many of every class.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (int): Clouds per class. (default: :obj:`1`)
        seed (int): The seed. (default: :obj:`0`)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)

    Returns:
        The chosen clouds, stored at full resolution.

    Raises:
        TypeError, ValueError: If the data or an argument do not fit.
    """
    check_int("ppc", ppc)
    check_int("seed", seed, minimum=0)
    task = find_task(task)
    bank = task.read(dataset)
    index = bank.draw(ppc, torch.Generator().manual_seed(seed))
    return real_coreset(bank, index, {"method": "random", "seed": seed}, task)
