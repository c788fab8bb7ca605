"""The forgetting coreset: the clouds that a network forgets most often."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_seed
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.coreset.observation import Observation
from torch_geometric_ddp.coreset.selection import observed_coreset
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["ForgettingEvents", "forgetting_coreset"]


class ForgettingEvents:
    r"""Counts how often a network forgets every cloud while it is trained.

    A cloud is forgotten when it is classified wrongly and was classified rightly the last time
    that it was shown: `"An Empirical Study of Example Forgetting during Deep Neural Network
    Learning" <https://arxiv.org/abs/1812.05159>`_ (Toneva et al., ICLR 2019, section 3). As there,
    the predictions are those of the training itself, with dropout. An observer for
    :meth:`~torch_geometric_ddp.evaluation.fit`.

    Args:
        y (torch.Tensor): The labels of all clouds, :obj:`[n]`.
    """

    def __init__(self, y: Tensor) -> None:
        self.y = y
        self._count = torch.zeros_like(y)
        self._shown = torch.zeros_like(y)
        self._right = torch.zeros_like(y, dtype=torch.bool)
        self._learned = torch.zeros_like(y, dtype=torch.bool)

    def __call__(self, index: Tensor, logits: Tensor) -> None:
        """Notes the logits :obj:`[B, C]` of the different clouds :obj:`index [B]`."""
        right = logits.argmax(dim=1) == self.y[index]
        self._count[index] += self._right[index] & ~right
        self._shown[index] += 1
        self._right[index] = right
        self._learned[index] |= right

    def counts(self) -> Tensor:
        """The number of events of every cloud, :obj:`[n]` (:obj:`int64`).

        The paper calls clouds that were never classified rightly forgotten infinitely often. They
        get the number of times that they were shown, the epochs, which no other cloud can reach:
        it takes two showings to be forgotten once.
        """
        return torch.where(self._learned, self._count, self._shown)


def forgetting_coreset(
    dataset: Iterable[Data],
    ppc: float,
    observation: Observation,
    seed: int = 0,
    task: Task | str = "classification",
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    """Chooses the real clouds of every class that were forgotten most often in training.

    `"An Empirical Study of Example Forgetting during Deep Neural Network Learning"
    <https://arxiv.org/abs/1812.05159>`_ (Toneva et al., ICLR 2019); see
    :class:`ForgettingEvents`. Clouds that were forgotten equally often come in random order, and
    a class with fewer clouds than fit starts again.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (float): The storage, in full-resolution clouds per class.
        observation (Observation): What :func:`observe` saw of the same clouds.
        seed (int): Decides between clouds that were forgotten equally often. (default: :obj:`0`)
        task (Task or str): A task whose clouds have one label each. (default:
            :obj:`"classification"`)
        quotas (str or sequence of float): How the storage is divided among the classes, see
            :func:`~torch_geometric_ddp.distill`. (default: :obj:`"uniform"`)

    Returns:
        The chosen clouds, as many as fit.

    Raises:
        TypeError: If :obj:`ppc` is no number, :obj:`seed` no integer or :obj:`observation` no
            :class:`Observation`.
        ValueError: If :obj:`ppc` is not above 0, :obj:`seed` is negative, the clouds of
            :obj:`dataset` differ in size or are not labelled as :obj:`task` needs them, or
            :obj:`observation` is of other clouds or holds no forgetting events.
    """
    seed = check_seed("seed", seed)
    task = find_task(task)

    def choose(bank: PointCloudBank, features: Tensor, num: int) -> Tensor:
        if observation.forgetting is None:
            raise ValueError(
                "'observation' must hold forgetting events, which only a task of one label a cloud "
                f"has; the task here is '{task.name}'"
            )
        # Below one, and on the CPU, so that a seed means the same on every device.
        tie = torch.rand(len(bank), generator=torch.Generator().manual_seed(seed))
        forgotten = observation.forgetting.to(bank.device) + tie.to(bank.device, torch.float64)
        return bank.smallest(-forgotten, num)

    return observed_coreset(
        "forgetting", choose, dataset, ppc, observation, task, seed=seed, quotas=quotas
    )
