"""Starts that choose real clouds by what trained networks learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp._identity import describe, is_ours
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import BLOCK, PointCloudBank
from torch_geometric_ddp.matching.kernel_regression import class_weights
from torch_geometric_ddp.methods.exchange import Exchange
from torch_geometric_ddp.methods.starts import JointStart, Start
from torch_geometric_ddp.methods.storing import StoredForm
from torch_geometric_ddp.methods.trained_networks import Member, TrainedNetworks
from torch_geometric_ddp.quotas import Quotas, check_quotas, first_of_each
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["chosen_by_regression"]


def chosen_by_regression(
    form: StoredForm,
    visits: int = 300,
    candidates: int = 64,
    ridge: float = 0.01,
    weigh: Quotas = "uniform",
) -> Callable[[TrainedNetworks], Start]:
    r"""Chooses real clouds whose stored form predicts the labels of the others best.

    From a random draw on, one place of the set after the other is visited in random order. Its
    cloud is exchanged for the best of some others of its class where that lowers the loss of
    :class:`~torch_geometric_ddp.matching.KernelRegression`, averaged over all trained networks.
    Clouds are judged as they will be stored. In each network all pairs of the set's clouds take 16
    bytes, its pairs with the real clouds that are known 16 more, those of all real clouds with
    these 4, and every feature of a cloud 4.

    Args:
        form (callable): Gives what is stored of real clouds, see
            :meth:`~torch_geometric_ddp.methods.CloudStoring.form`.
        visits (int): How many places are visited. (default: :obj:`300`)
        candidates (int): How many clouds are tried at a place. (default: :obj:`64`)
        ridge (float): That of the regression. (default: :obj:`0.01`)
        weigh (str or sequence of float): That of the regression. (default: :obj:`"uniform"`)

    Returns:
        Makes the start of a run from its networks, which raises a :class:`MemoryError` where that
        is more than is free, before they are trained.

    Raises:
        TypeError: If :obj:`visits` or :obj:`candidates` is no integer, or :obj:`weigh` neither a
            name nor numbers.
        ValueError: If :obj:`visits` is negative, :obj:`candidates` below one, or :obj:`weigh` are
            no known name or hold a number that is not above 0.
    """
    visits = check_int("visits", visits, minimum=0)
    candidates = check_int("candidates", candidates)
    return ChosenByRegression(form, visits, candidates, ridge, check_quotas(weigh, name="weigh"))


@dataclass(frozen=True)
class ChosenByRegression:
    """What :func:`chosen_by_regression` makes."""

    form: StoredForm
    visits: int
    candidates: int
    ridge: float
    weigh: Quotas

    def config(self) -> dict[str, Any]:
        """The settings, as JSON; what is stored of clouds is told by their parameterization."""
        form = {} if is_ours(self.form) else {"form": describe(self.form)}
        return {
            "visits": self.visits,
            "candidates": self.candidates,
            "ridge": self.ridge,
            "weigh": self.weigh,
            **form,
        }

    def __call__(self, networks: TrainedNetworks) -> Start:
        """The start of a run, from its networks."""
        return JointStart(partial(self._choose, networks))

    def _choose(
        self,
        networks: TrainedNetworks,
        bank: PointCloudBank,
        counts: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        index = first_of_each(bank.draw(max(counts), generator), counts)
        if self.visits:  # Else no networks are needed either.
            known = bank.num_classes * networks.real_per_class
            sizes = len(index), networks.num_features(), len(bank), known
            Exchange.check_memory(networks.num_members, *sizes, bank.device)
            members = networks.members(networks.progress)
            search = exchange_of(bank, members, self.form, self.ridge, index, self.weigh)
            of_class = [(bank.y == c).nonzero().flatten() for c in range(bank.num_classes)]
            candidates_of = [of_class[c] for c, num in enumerate(counts) for _ in range(num)]
            places = torch.empty(0, dtype=torch.long)
            bar = tqdm(range(self.visits), "Choose", unit="place", disable=not networks.progress)
            for _ in bar:
                if len(places) == 0:
                    places = torch.randperm(len(index), generator=generator)
                place, places = int(places[0]), places[1:]
                own = candidates_of[place]
                some = torch.randperm(len(own), generator=generator)[: self.candidates]
                search.visit(place, own[some.to(own.device)])
            index = search.index
        return bank.dense()[index]


def exchange_of(
    bank: PointCloudBank,
    members: list[Member],
    form: StoredForm,
    ridge: float,
    index: Tensor,
    weigh: Quotas = "uniform",
) -> Exchange:
    """The regression from a set of real clouds, as they are stored, that networks see.

    Args:
        bank (PointCloudBank): The real clouds.
        members (list of Member): The trained networks.
        form (callable): Gives what is stored of real clouds.
        ridge (float): That of the regression.
        index (torch.Tensor): The first set, :obj:`[K]`.
        weigh (str or sequence of float): How much the classes weigh. (default: :obj:`"uniform"`)
    """
    stored = torch.cat([form(some) for some in bank.dense().split(BLOCK)])
    sizes = torch.full((len(stored),), stored.size(1), device=stored.device)
    pos = NormalizeSphere.apply(stored.flatten(0, 1), sizes).view_as(stored)
    num_classes, num = members[0].features.shape[:2]
    labels = torch.arange(num_classes, device=pos.device).repeat_interleave(num)
    # Filled in place, as they are the largest that there is.
    features = pos.new_empty(len(members), len(pos), members[0].features.size(2))
    crosses = pos.new_empty(len(members), len(pos), len(labels))
    for i, member in enumerate(members):
        with torch.no_grad():
            parts = [member.network.cloud_layers(from_dense(some)) for some in pos.split(256)]
        features[i] = member.joint([torch.cat(layer) for layer in zip(*parts, strict=True)])
        torch.mm(features[i], member.features.flatten(0, 1).mT, out=crosses[i])
    shares = num_classes * class_weights(bank, weigh)[labels]
    return Exchange(features, crosses, bank.y, labels, num_classes, ridge, index, shares)
