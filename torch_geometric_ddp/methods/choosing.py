"""Starts that choose real clouds by what trained networks learn from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import BLOCK, PointCloudBank
from torch_geometric_ddp.matching.kernel_regression import errors_of, joint_features
from torch_geometric_ddp.methods.starts import Start
from torch_geometric_ddp.methods.storing import StoredForm
from torch_geometric_ddp.methods.trained_networks import Member, TrainedNetworks
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["chosen_by_regression"]


def chosen_by_regression(
    form: StoredForm, proposals: int = 1500, ridge: float = 0.01
) -> Callable[[TrainedNetworks], Start]:
    r"""Chooses real clouds whose stored form predicts the labels of the others best.

    From a random draw on, a cloud of the set is exchanged for another of its class where that
    lowers the loss of :class:`~torch_geometric_ddp.matching.KernelRegression`, averaged over all
    trained networks. Clouds are judged as they will be stored.

    Args:
        form (callable): Gives what is stored of real clouds, see
            :func:`~torch_geometric_ddp.methods.storing.packed_form`.
        proposals (int): How many exchanges are tried. (default: :obj:`1500`)
        ridge (float): That of the regression. (default: :obj:`0.01`)

    Returns:
        Makes the start of a run from its networks.

    Raises:
        TypeError: If :obj:`proposals` is no integer.
        ValueError: If :obj:`proposals` is negative.
    """
    check_int("proposals", proposals, minimum=0)

    def of(networks: TrainedNetworks) -> Start:
        def start(bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
            index = bank.draw(num, generator)
            if proposals == 0:  # Then no networks are needed either.
                return bank.dense()[index]
            search = _Search(bank, networks.members(progress=True), form, ridge, index)
            for _ in tqdm(range(proposals), "Choose", unit="exchange"):
                search.propose(generator)
            return bank.dense()[search.index.view(bank.num_classes, num)]

        return start

    return of


class _Search:
    """A set of real clouds, the kernels among them and to others, and exchanges that lower a loss.

    Args:
        bank (PointCloudBank): The real clouds.
        members (list of Member): The trained networks.
        form (callable): Gives what is stored of real clouds.
        ridge (float): That of the regression.
        index (torch.Tensor): The first set, :obj:`[C, K]`.
    """

    def __init__(
        self,
        bank: PointCloudBank,
        members: list[Member],
        form: StoredForm,
        ridge: float,
        index: Tensor,
    ) -> None:
        self.bank, self.ridge = bank, ridge
        self.index, self.y = index.flatten().clone(), bank.y[index.flatten()]
        self.members = [(bank.y == c).nonzero().flatten() for c in range(bank.num_classes)]
        stored = torch.cat([form(some) for some in bank.dense().split(BLOCK)])
        sizes = torch.full((len(stored),), stored.size(1), device=stored.device)
        pos = NormalizeSphere.apply(stored.flatten(0, 1), sizes).view_as(stored)
        num_classes, num = members[0].layers[0].shape[:2]
        self.labels = torch.arange(num_classes, device=pos.device).repeat_interleave(num)
        features, crosses = [], []
        for member in members:
            with torch.no_grad():
                parts = [member.network.cloud_layers(from_dense(some)) for some in pos.split(256)]
            mine = [torch.cat(layer) for layer in zip(*parts, strict=True)]
            x, s = joint_features([layer.flatten(0, 1) for layer in member.layers], mine)
            features.append(s)
            crosses.append(s @ x.mT)
        #: Of all real clouds: their features [T, n, F] and their kernels to the known ones.
        self.features, self.crosses = torch.stack(features), torch.stack(crosses)
        chosen = self.features[:, self.index]
        self.kernel = chosen @ chosen.mT
        self.cross = self.crosses[:, self.index]
        self.loss = self._loss()

    def propose(self, generator: torch.Generator) -> None:
        """Tries one exchange, and takes it back unless it lowers the loss."""
        slot = int(torch.randint(len(self.index), (), generator=generator))
        others = self.members[int(self.y[slot])]
        cloud = others[int(torch.randint(len(others), (), generator=generator))]
        if bool((self.index == cloud).any()):
            return
        before = int(self.index[slot]), self.kernel[:, slot].clone(), self.cross[:, slot].clone()
        self.index[slot] = cloud
        row = self.features[:, self.index] @ self.features[:, cloud, :, None]
        self._set(slot, row.squeeze(-1), self.crosses[:, cloud])
        loss = self._loss()
        if loss < self.loss:
            self.loss = loss
        else:
            self.index[slot] = before[0]
            self._set(slot, *before[1:])

    def _set(self, slot: int, row: Tensor, cross: Tensor) -> None:
        self.kernel[:, slot], self.kernel[:, :, slot] = row, row
        self.cross[:, slot] = cross

    def _loss(self) -> float:
        args = self.labels, self.y, self.bank.num_classes, self.ridge
        return float(errors_of(self.kernel, self.cross.mT, *args).mean())
