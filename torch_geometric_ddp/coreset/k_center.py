"""The k-center coreset, which leaves no cloud of a class far away."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.selection import nearest_to_mean, observed_coreset
from torch_geometric_ddp.parameterization import FLOAT32, Codec
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task

__all__ = ["k_center_coreset"]


def k_center_coreset(
    dataset: Iterable[Data],
    ppc: float,
    observation: Observation,
    task: Task | str = "classification",
    num_points: int | None = None,
    codec: Codec = FLOAT32,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    r"""Chooses real clouds as greedy centres: no cloud of a class is far from the nearest.

    The first is the cloud nearest to the mean of the class, every further one the cloud that is
    farthest from its nearest centre,

    .. math::
        i_k = \operatorname{arg\,max}_i \min_{j<k} \| f_i - f_{i_j} \| ,

    the greedy algorithm of `"Active Learning for Convolutional Neural Networks: A Core-Set
    Approach" <https://arxiv.org/abs/1708.00489>`_ (Sener & Savarese, ICLR 2018), within every
    class. The largest distance to a centre is at most twice the least possible. A class with
    fewer clouds than fit starts again.

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
        "k-center", _centres, dataset, ppc, observation, task, num_points, codec, quotas=quotas
    )


def _centres(bank: PointCloudBank, features: Tensor, num: int) -> Tensor:
    chosen = [nearest_to_mean(bank, features)]
    gap = torch.full_like(features[:, 0], torch.inf)
    for _ in range(1, num):
        centre = features[chosen[-1].squeeze(1)]
        gap = gap.minimum((features - centre[bank.y]).square().sum(dim=1))
        gap[chosen[-1]] = -1.0  # Behind clouds that coincide with a centre.
        chosen.append(bank.smallest(-gap, 1))
    return bank.cycle(torch.cat(chosen, dim=1), num)
