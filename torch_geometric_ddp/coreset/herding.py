"""The coreset whose mean feature is that of its class."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.selection import class_means, observed_bank, real_coreset
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["herding_coreset"]


def herding_coreset(
    dataset: Iterable[Data],
    ppc: int,
    observation: Observation,
    task: Task | str = "classification",
) -> SyntheticPointCloudDataset:
    r"""Chooses real clouds by herding: their mean feature stays close to that of the class.

    The :math:`k`-th cloud of class :math:`c` is, among those not chosen yet,

    .. math::
        i_k = \arg\min_i \Big\| \mu_c - \frac{1}{k} \Big( f_i + \sum_{j<k} f_{i_j} \Big) \Big\|

    with the feature :math:`f_i` of a cloud and their mean :math:`\mu_c`: `"Herding Dynamical
    Weights to Learn" <https://doi.org/10.1145/1553374.1553517>`_ (Welling, ICML 2009) in the
    greedy form that "Dataset Condensation with Gradient Matching" (ICLR 2021) compares itself
    with. A class with fewer than :obj:`ppc` clouds starts again.

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
    mean = class_means(bank, features)
    total = torch.zeros_like(mean)
    taken = torch.zeros_like(features[:, 0])
    chosen = []
    for k in range(1, ppc + 1):
        wanted = k * mean - total  # The feature that would make the mean exact.
        away = (features - wanted[bank.y]).square().sum(dim=1)
        chosen.append(bank.smallest(away + taken, 1))
        taken[chosen[-1]] = torch.inf
        total += features[chosen[-1].squeeze(1)]
    index = bank.cycle(torch.cat(chosen, dim=1), ppc)
    provenance = {"method": "herding", "seed": None, "observation": observation.config}
    return real_coreset(bank, index, provenance, task)
