"""The coreset that leaves no cloud of a class far away."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.selection import nearest_to_mean, observed_bank, real_coreset
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["k_center_coreset"]


def k_center_coreset(
    dataset: Iterable[Data],
    ppc: int,
    observation: Observation,
    task: Task | str = "classification",
) -> SyntheticPointCloudDataset:
    r"""Chooses real clouds as greedy centres: no cloud of a class is far from the nearest.

    The first is the cloud nearest to the mean of the class, every further one the cloud that is
    farthest from its nearest centre,

    .. math::
        i_k = \arg\max_i \min_{j<k} \| f_i - f_{i_j} \| ,

    the greedy algorithm of `"Active Learning for Convolutional Neural Networks: A Core-Set
    Approach" <https://arxiv.org/abs/1708.00489>`_ (Sener & Savarese, ICLR 2018), within every
    class. The largest distance to a centre is at most twice the least possible. A class with
    fewer than :obj:`ppc` clouds starts again.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (int): Clouds per class.
        observation (Observation): What :func:`observe` saw of the same clouds.
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)

    Returns:
        The chosen clouds, stored at full resolution.

    Raises:
        TypeError, ValueError: If the data or an argument do not fit.
    """
    task = find_task(task)
    bank, features = observed_bank(dataset, ppc, observation, task)
    chosen = [nearest_to_mean(bank, features)]
    gap = torch.full_like(features[:, 0], torch.inf)
    for _ in range(1, ppc):
        centre = features[chosen[-1].squeeze(1)]
        gap = gap.minimum((features - centre[bank.y]).square().sum(dim=1))
        gap[chosen[-1]] = -1.0  # Behind clouds that coincide with a centre.
        chosen.append(bank.smallest(-gap, 1))
    index = bank.cycle(torch.cat(chosen, dim=1), ppc)
    provenance = {"method": "k_center", "seed": None, "observation": observation.config}
    return real_coreset(bank, index, provenance, task)
