"""The herding coreset, whose mean feature is that of its class."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.selection import class_means, observed_coreset
from torch_geometric_ddp.parameterization import FLOAT32, Codec
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task

__all__ = ["herding_coreset"]


def herding_coreset(
    dataset: Iterable[Data],
    ppc: float,
    observation: Observation,
    task: Task | str = "classification",
    num_points: int | None = None,
    codec: Codec = FLOAT32,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    r"""Chooses real clouds by herding: their mean feature stays close to that of the class.

    The :math:`k`-th cloud of class :math:`c` is, among those not chosen yet,

    .. math::
        i_k = \operatorname{arg\,min}_i
        \left\| \mu_c - \frac{1}{k} \left( f_i + \sum_{j<k} f_{i_j} \right) \right\|

    with the feature :math:`f_i` of a cloud and their mean :math:`\mu_c`: `"Herding Dynamical
    Weights to Learn" <https://doi.org/10.1145/1553374.1553517>`_ (Welling, ICML 2009) in the
    greedy form that "Dataset Condensation with Gradient Matching" (ICLR 2021) compares itself
    with. A class with fewer clouds than fit starts again.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (float): The storage, in full-resolution clouds per class.
        observation (Observation): What :func:`observe` saw of the same clouds.
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
        TypeError: If :obj:`ppc` is no number or :obj:`observation` no :class:`Observation`.
        ValueError: If :obj:`ppc` is not above 0, the clouds of :obj:`dataset` differ in size or are
            not labelled as :obj:`task` needs them, :obj:`observation` is of other clouds,
            nothing fits, or :obj:`quotas` are no known name and not a number above 0 for every
            class, or leave nothing to divide.
    """
    return observed_coreset(
        "herding", _herded, dataset, ppc, observation, task, num_points, codec, quotas=quotas
    )


def _herded(bank: PointCloudBank, features: Tensor, num: int) -> Tensor:
    mean = class_means(bank, features)
    total = torch.zeros_like(mean)
    taken = torch.zeros_like(features[:, 0])
    chosen = []
    for k in range(1, num + 1):
        wanted = k * mean - total  # The feature that would make the mean exact.
        away = (features - wanted[bank.y]).square().sum(dim=1)
        chosen.append(bank.smallest(away + taken, 1))
        taken[chosen[-1]] = torch.inf
        total += features[chosen[-1].squeeze(1)]
    return bank.cycle(torch.cat(chosen, dim=1), num)
