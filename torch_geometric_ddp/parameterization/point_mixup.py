"""Real clouds and mixtures of pairs of them, which the reader makes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar

import torch
from scipy.stats.qmc import Halton
from torch import Tensor, nn

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_int, check_points
from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.division import groups_per_class
from torch_geometric_ddp.parameterization.form import Form, same, taken

__all__ = ["PointMixup"]

# A file may not ask for more mixtures of a group, which cost nothing to store.
_MOST_MIXTURES = 1000


class PointMixup(Parameterization):
    r"""A few clouds per group, and mixtures of pairs of them that cost no storage.

    A group of :math:`M` clouds unfolds to them and to :math:`L` mixtures

    .. math::
        x_l = (1 - r_l) \, a_i + r_l \, \pi_{ij}(a_j), \qquad l = 1, \ldots, L

    where :math:`\pi_{ij}` reorders the points of :math:`a_j` by optimal assignment to those of
    :math:`a_i`: `"PointMixup: Augmentation for Point Clouds" <https://arxiv.org/abs/2008.06374>`_
    (ECCV 2020), within a class and as a set that is made once. The mixtures take all pairs in turn,
    at one half, then at a quarter, three quarters, an eighth and so on (the van der Corput
    sequence), so that nothing but the clouds is stored: neither ratios nor a seed.

    Args:
        anchors (torch.Tensor): The clouds :obj:`[C * K, M, N2, 3]`, class by class.
        num_classes (int): The number of classes :math:`C`.
        num_mixtures (int): The number of mixtures :math:`L` of a group, at most 1,000.
        lr (float): The default learning rate. (default: :obj:`1.0`)
        codec (Codec): How the clouds are stored. (default: :class:`Float32`)

    Raises:
        TypeError, ValueError: If a shape, a type or a number does not fit, or there are mixtures
            of a single cloud.
    """

    # A cloud is a set: which points correspond is computed of whatever order they have.
    forms: ClassVar[Mapping[str, Form]] = {"anchors": Form(in_order=same)}
    letters: ClassVar[Mapping[str, str | None]] = {
        "num_anchors": "M",
        "num_points": "N2",
        "num_mixtures": "L",
    }

    anchors: nn.Parameter

    def __init__(
        self,
        anchors: Tensor,
        num_classes: int,
        num_mixtures: int,
        lr: float = 1.0,
        codec: Codec = FLOAT32,
    ) -> None:
        anchors = check_points("anchors", anchors, "G M N2 3")
        ppc = groups_per_class("anchors", anchors, num_classes)
        super().__init__(num_classes, ppc, anchors.size(2))
        self.num_anchors = anchors.size(1)
        self.num_mixtures = check_int(
            "num_mixtures", num_mixtures, minimum=0, maximum=_MOST_MIXTURES
        )
        if self.num_anchors < 2 and self.num_mixtures:
            raise ValueError(f"'anchors' must be two or more of a group, got {self.num_anchors}")
        self.clouds_per_group = self.num_anchors + self.num_mixtures
        self.keep("anchors", anchors, lr, codec)

    def clouds(self, anchors: Tensor) -> Tensor:
        """Clouds and mixtures :obj:`[G * (M + L), N2, 3]` of the groups, clouds first."""
        pairs = [*combinations(range(self.num_anchors), 2)][: self.num_mixtures]
        if not pairs:
            return anchors.flatten(0, 1)
        first, second = (list(side) for side in zip(*pairs, strict=True))
        order = torch.stack([_assigned(group, pairs) for group in anchors])
        others = taken(anchors[:, second], order)
        index = torch.arange(self.num_mixtures)
        turn, cycle = index % len(pairs), index // len(pairs)
        sequence = Halton(1, scramble=False).fast_forward(1).random(int(cycle[-1]) + 1)
        ratios = anchors.new_tensor(sequence)[cycle.to(anchors.device)]
        mixtures = torch.lerp(anchors[:, first][:, turn], others[:, turn], ratios[..., None])
        return torch.cat([anchors, mixtures], dim=1).flatten(0, 1)

    def sizes(self) -> dict[str, Any]:
        """:obj:`num_anchors` and :obj:`num_mixtures`."""
        return {"num_anchors": self.num_anchors, "num_mixtures": self.num_mixtures}

    def is_morph(self) -> Tensor:
        """The mask :obj:`[C * K * (M + L)]` of the mixtures."""
        group = torch.arange(self.clouds_per_group) >= self.num_anchors
        return group.repeat(self.num_groups)


def _assigned(group: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The order :obj:`[P, N]` of the points of the second of each pair of clouds."""
    return torch.stack([ops.alignment(group[[*pair]])[1] for pair in pairs])
