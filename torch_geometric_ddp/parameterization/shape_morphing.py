"""Anchors and learnable convex weights: the parameterization of DDP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_float, check_int, check_points
from torch_geometric_ddp.parameterization.base import Parameterization, stored_tensor
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.rotation import Rotation

__all__ = ["ANCHOR_LR", "ShapeMorphing"]

#: The learning rate of anchors, chosen on a validation split of ModelNet10. The paper has 10 and
#: its code 100, both on a loss scaled by 0.08: 0.8 and 8 here.
ANCHOR_LR = 2.5


class ShapeMorphing(Parameterization):
    r"""A few low-resolution anchors per group, and morphs between them.

    A group of :math:`M` aligned anchors :math:`\tilde a_m` unfolds to its anchors followed by
    :math:`L` morphs

    .. math::
        x_l = \sum_{m=1}^{M} \operatorname{softmax}(w_l)_m \, \tilde a_m ,
        \qquad l = 1, \ldots, L

    (DDP, ICLR 2026, learnable shape morphing). The weights sum to one, so that :math:`M - 1`
    numbers per morph are stored: the logits less the first.

    Args:
        anchors (torch.Tensor): The aligned anchors :obj:`[C * K, M, N2, 3]`, class by class.
        num_classes (int): The number of classes :math:`C`.
        num_morphs (int): The number of morphs :math:`L` of a group.
        weights (torch.Tensor, optional): The logits :obj:`[C * K, L, M]` of the morphs.
            (default: all zero, equal weights)
        adaptive (bool): Whether the weights are learned and stored. Otherwise they stay equal and
            cost nothing (*static* morphing, the paper's ablation). (default: :obj:`True`)
        anchor_lr (float): Default learning rate of the anchors. (default: :obj:`ANCHOR_LR`)
        weight_lr (float, optional): Default learning rate of the weights. (default: a tenth of
            that of the anchors)
        rotation_lr (float, optional): The default learning rate of a turn of every anchor about
            the up axis (:class:`Rotation`). (default: no turns)
        labels (PartLabels, optional): The parts of the points, one row for each class, so that
            the labels of a morph's point are those of the anchors' points that it mixes.
            (default: none)
    """

    def __init__(
        self,
        anchors: Tensor,
        num_classes: int,
        num_morphs: int,
        weights: Tensor | None = None,
        adaptive: bool = True,
        anchor_lr: float = ANCHOR_LR,
        weight_lr: float | None = None,
        rotation_lr: float | None = None,
        labels: PartLabels | None = None,
    ) -> None:
        anchors = check_points("anchors", anchors, "G M N2 3")
        num_classes = check_int("num_classes", num_classes)
        if anchors.size(0) == 0 or anchors.size(0) % num_classes != 0:
            raise ValueError(
                f"'anchors' must hold as many groups for each of {num_classes} classes, got "
                f"{anchors.size(0)} groups"
            )
        super().__init__(num_classes, anchors.size(0) // num_classes)
        self.num_anchors, self.anchor_points = anchors.shape[1:3]
        self.num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        self.clouds_per_group = self.num_anchors + self.num_morphs
        shape = (anchors.size(0), self.num_morphs, self.num_anchors)
        if weights is None:
            weights = anchors.new_zeros(shape)
        if weights.shape != shape:
            raise ValueError(f"'weights' must have shape {list(shape)}, got {list(weights.shape)}")
        self.adaptive = adaptive
        self.anchor_lr = check_float("anchor_lr", anchor_lr)
        weight_lr = anchor_lr / 10 if weight_lr is None else weight_lr
        self.weight_lr = check_float("weight_lr", weight_lr)
        self.anchors = nn.Parameter(anchors.detach().clone())
        self.weights = nn.Parameter(weights.detach().clone(), requires_grad=adaptive)
        if rotation_lr is not None:
            self.rotation = Rotation(self.anchors, rotation_lr)
        self.label_with(labels, self.anchor_points)

    @classmethod
    def from_clouds(
        cls,
        pos: Tensor,
        num_anchors: int,
        anchor_points: int,
        num_morphs: int,
        generator: torch.Generator | None = None,
        adaptive: bool = True,
        labels: PartLabels | None = None,
        **kwargs: Any,
    ) -> Self:
        r"""Starts from real clouds: farthest point sampling, alignment and random weights.

        Args:
            pos (torch.Tensor): The real clouds :obj:`[C, K * M, N1, 3]`, :obj:`M` for each group.
            num_anchors (int): The number of anchors :math:`M` of a group.
            anchor_points (int): The number of points :math:`N_2` of an anchor.
            num_morphs (int): The number of morphs :math:`L` of a group.
            generator (torch.Generator, optional): Draws the logits of the weights, standard
                normal as in the published code. (default: the global one)
            adaptive (bool): See above. (default: :obj:`True`)
            labels (PartLabels, optional): The parts of the points. The clouds must then have
                :math:`N_2` points in their layout, and are aligned within every part.
            **kwargs: Further arguments of the constructor.
        """
        pos = check_points("pos", pos, "C K*M N1 3")
        num_anchors = check_int("num_anchors", num_anchors)
        num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        if pos.size(1) == 0 or pos.size(1) % num_anchors != 0:
            raise ValueError(
                f"'pos' must hold a multiple of {num_anchors} clouds a class, got {pos.size(1)}"
            )
        num_classes, flat = pos.size(0), pos.flatten(0, 1)
        if labels is None:
            flat = ops.gather_points(flat, ops.farthest_point_sample(flat, anchor_points))
            parts: list[Tensor | None] = [None] * (len(flat) // num_anchors)
        else:
            if pos.size(2) != anchor_points:
                raise ValueError(
                    f"'pos' must have clouds of {anchor_points} points, in the layout of 'labels', "
                    f"got {pos.size(2)} points"
                )
            parts = [*labels(0, num_classes, pos.size(1) // num_anchors)]
        groups = flat.view(-1, num_anchors, anchor_points, 3)
        pairs = zip(groups, parts, strict=True)
        anchors = torch.stack([ops.align_points(group, part) for group, part in pairs])
        shape = (len(anchors), num_morphs, num_anchors)
        # Drawn on the CPU, so that a seed means the same on every device.
        weights = torch.randn(shape, generator=generator) if adaptive else torch.zeros(shape)
        weights = weights.to(anchors)
        return cls(anchors, num_classes, num_morphs, weights, adaptive, labels=labels, **kwargs)

    def clouds(self, groups: slice = slice(None)) -> Tensor:
        """Anchors and morphs :obj:`[G * (M + L), N2, 3]` of the groups, anchors first."""
        anchors = self.turned(self.anchors[groups], groups)
        morphs = ops.morph(anchors, self.weights[groups].softmax(dim=-1))
        return torch.cat([anchors, morphs], dim=1).flatten(0, 1)

    def is_morph(self) -> Tensor:
        """The mask :obj:`[C * K * (M + L)]` of the morphs."""
        group = torch.arange(self.clouds_per_group) >= self.num_anchors
        return group.repeat(self.num_classes * self.ppc)

    def storage(self) -> dict[str, Tensor]:
        """:obj:`anchors [C * K, M, N2, 3]` and, if adaptive, :obj:`weights [C * K, L, M - 1]`.

        Where points are labelled, also the layout of every class.
        """
        out = {"anchors": self.turned(self.anchors).detach(), **self._label_storage()}
        if self.adaptive:
            logits = self.weights.detach()
            out["weights"] = logits[..., 1:] - logits[..., :1]
        return out

    def config(self) -> dict[str, Any]:
        """The sizes :obj:`num_anchors`, :obj:`anchor_points` and :obj:`num_morphs`."""
        return {
            "num_anchors": self.num_anchors,
            "anchor_points": self.anchor_points,
            "num_morphs": self.num_morphs,
            "adaptive": self.adaptive,
            **self._label_config(),
        }

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """Restores what :meth:`storage` and :meth:`config` describe."""
        groups, anchors = num_classes * ppc, config["num_anchors"]
        pos = stored_tensor(storage, "anchors", (groups, anchors, config["anchor_points"], 3))
        weights = None
        if config["adaptive"]:
            stored = stored_tensor(storage, "weights", (groups, config["num_morphs"], anchors - 1))
            weights = nn.functional.pad(stored, (1, 0))
        labels = PartLabels.from_storage(storage, config)
        adaptive, num = config["adaptive"], config["num_morphs"]
        return cls(pos, num_classes, num, weights, adaptive, labels=labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The anchors, the weights if they are learned, and the turns if there are any."""
        groups = [{"params": [self.anchors], "lr": self.anchor_lr}]
        if self.adaptive:
            groups.append({"params": [self.weights], "lr": self.weight_lr})
        return groups + (self.rotation.parameter_groups() if self.rotation is not None else [])

    def describe(self) -> str:
        """What is stored, in a few words for a person."""
        return (
            f"ShapeMorphing(C={self.num_classes}, K={self.ppc}, M={self.num_anchors}, "
            f"N2={self.anchor_points}, L={self.num_morphs})"
        )
