"""Anchors and learnable convex weights: the parameterization of DDP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import (
    check_flag,
    check_float,
    check_int,
    check_points,
    check_tensor,
)
from torch_geometric_ddp.budget import BudgetError, StorageBudget, tensor_bits
from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.codecs.base import check_codec
from torch_geometric_ddp.parameterization.division import groups_per_class
from torch_geometric_ddp.parameterization.form import Form
from torch_geometric_ddp.parameterization.part_labels import PartLabels

__all__ = ["ANCHOR_LR", "ShapeMorphing"]

#: The learning rate of anchors, chosen on a validation split of ModelNet10. The paper has 10 and
#: names no scale of the loss; its code has 100 on a loss scaled by 0.08, which is 8 here.
ANCHOR_LR = 2.5


def _differences(logits: Tensor) -> Tensor:
    return logits[..., 1:] - logits[..., :1]


def _logits(differences: Tensor) -> Tensor:
    return nn.functional.pad(differences, (1, 0))


def _aligned(anchors: Tensor) -> Tensor:
    return torch.stack([ops.align_points(group) for group in anchors])


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
        weights (torch.Tensor, optional): The logits :obj:`[C * K, L, M]` of the morphs, brought to
            the type and device of the anchors. (default: all zero, equal weights)
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
        codec (Codec): How the anchors are stored. (default: :class:`Float32`)
        weight_codec (Codec): How the weights are stored: that of :obj:`[C * K, L, M - 1]`
            differences to the first logit. (default: :class:`Float32`)

    Raises:
        TypeError, ValueError: If a shape, a type or a number does not fit.
    """

    # A codec that gives anchors back in another order leaves it to us which points correspond.
    forms: ClassVar[Mapping[str, Form]] = {
        "anchors": Form(in_order=_aligned),
        "weights": Form(pack=_differences, unpack=_logits),
    }
    # Whether weights are learned shows in the learning rates.
    letters: ClassVar[Mapping[str, str | None]] = {
        "num_anchors": "M",
        "anchor_points": "N2",
        "num_morphs": "L",
        "adaptive": None,
        "num_points": None,
    }

    anchors: nn.Parameter
    weights: nn.Parameter

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
        codec: Codec = FLOAT32,
        weight_codec: Codec = FLOAT32,
    ) -> None:
        anchors = check_points("anchors", anchors, "G M N2 3")
        check_codec("weight_codec", weight_codec)
        ppc = groups_per_class("anchors", anchors, num_classes)
        super().__init__(num_classes, ppc, anchors.size(2), labels)
        self.num_anchors, self.anchor_points = anchors.shape[1:3]
        self.num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        self.clouds_per_group = self.num_anchors + self.num_morphs
        shape = (anchors.size(0), self.num_morphs, self.num_anchors)
        if weights is None:
            weights = anchors.new_zeros(shape)
        weights = check_tensor("weights", weights, "G L M")
        if weights.shape != shape:
            raise ValueError(f"'weights' must have shape {list(shape)}, got {list(weights.shape)}")
        # Codecs of their own give them back in types of their own, which cannot be mixed.
        weights = weights.to(anchors)
        self.adaptive = check_flag("adaptive", adaptive)
        anchor_lr = check_float("anchor_lr", anchor_lr)
        weight_lr = anchor_lr / 10 if weight_lr is None else check_float("weight_lr", weight_lr)
        self.keep("anchors", anchors, anchor_lr, codec, rotation_lr)
        self.keep("weights", weights, weight_lr, weight_codec, learned=adaptive)

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
        align: bool = True,
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
                :math:`N_2` points in their arrangement, and are aligned within every part.
            align (bool): Whether the anchors of a group are aligned. Otherwise points correspond
                by their order in farthest point sampling (an ablation). (default: :obj:`True`)
            **kwargs: Further arguments of the constructor.

        Raises:
            TypeError, ValueError: If a shape, a type or a number does not fit, or anchors are not
                aligned that a codec would store without the order of their points.
        """
        pos = check_points("pos", pos, "C K*M N1 3")
        check_codec("codec", kwargs.get("codec", FLOAT32))
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
                    f"'pos' must have clouds of {anchor_points} points, in the arrangement of "
                    f"'labels', got {pos.size(2)} points"
                )
            parts = [*labels(0, num_classes, pos.size(1) // num_anchors)]
        groups = flat.view(-1, num_anchors, anchor_points, 3)
        anchors = groups
        if check_flag("align", align):
            pairs = zip(groups, parts, strict=True)
            anchors = torch.stack([ops.align_points(group, part) for group, part in pairs])
        elif not (codec := kwargs.get("codec", FLOAT32)).keeps_order:
            raise ValueError(
                f"'align' must be True where the codec of the anchors is {codec}, since they are "
                "aligned anew whenever a file of them is read"
            )
        shape = (len(anchors), num_morphs, num_anchors)
        # Drawn on the CPU, so that a seed means the same on every device.
        weights = torch.randn(shape, generator=generator) if adaptive else torch.zeros(shape)
        return cls(anchors, num_classes, num_morphs, weights, adaptive, labels=labels, **kwargs)

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """As for every parameterization; also refuses more morphs than a file of that size has.

        Nothing that is stored bounds their number where their weights are equal.

        Raises:
            TypeError, ValueError: If a tensor or a size does not fit, or the clouds would take more
                than 1 GiB and a thousand times the room of what is stored.
        """
        groups = check_int("num_classes", num_classes) * check_int("ppc", ppc)
        names = ("num_anchors", "anchor_points", "num_morphs")
        sizes = [config.get(name) for name in names] if isinstance(config, Mapping) else []
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) == len(names):  # What is missing is found by the others.
            anchors, points, morphs = numbers
            morphs = max([morphs, *storage.get("weights", torch.empty(0)).shape[1:2]])
            # Of the points, and of the weights before them.
            needed = 12 * groups * (anchors + morphs) * max(anchors, points)
            if needed > max(2**30, 1000 * tensor_bits(storage) // 8):
                raise ValueError(
                    f"the sizes {names} must be of clouds that fit into memory, got {numbers} for "
                    f"each of {groups} groups, which take {needed} bytes"
                )
        return super().from_storage(storage, config, num_classes, ppc)

    def clouds(self, anchors: Tensor, weights: Tensor) -> Tensor:
        """Anchors and morphs :obj:`[G * (M + L), N2, 3]` of the groups, anchors first."""
        morphs = ops.morph(anchors, weights.softmax(dim=-1))
        return torch.cat([anchors, morphs], dim=1).flatten(0, 1)

    def sizes(self) -> dict[str, Any]:
        """:obj:`num_anchors`, :obj:`anchor_points`, :obj:`num_morphs` and :obj:`adaptive`."""
        return {
            "num_anchors": self.num_anchors,
            "anchor_points": self.anchor_points,
            "num_morphs": self.num_morphs,
            "adaptive": self.adaptive,
        }

    def is_morph(self) -> Tensor:
        """The mask :obj:`[C * K * (M + L)]` of the morphs."""
        group = torch.arange(self.clouds_per_group) >= self.num_anchors
        return group.repeat(self.num_groups)

    def mixing_weights(self) -> Tensor:
        """The weights :obj:`[C * K, L, M]` of the morphs, each of a sum of one."""
        return self._seen("weights", slice(None)).softmax(dim=-1)

    @classmethod
    def largest_anchor_points(
        cls,
        budget: StorageBudget,
        num_anchors: int,
        num_morphs: int,
        codec: Codec = FLOAT32,
        weight_codec: Codec = FLOAT32,
        most: int | None = None,
    ) -> int:
        r"""The largest :math:`N_2` that fits with :math:`M` anchors and :math:`L` morphs.

        .. code-block:: python

            >>> ShapeMorphing.largest_anchor_points(StorageBudget(1024, 10), 4, 16)
            252

        Args:
            budget (StorageBudget): What may be stored, with a group in every whole cloud per class,
                or one where it is less than a cloud.
            num_anchors (int): The number of anchors :math:`M` of a group.
            num_morphs (int): The number of morphs :math:`L` of a group whose weights are stored.
            codec (Codec): How the anchors are stored. (default: :class:`Float32`)
            weight_codec (Codec): How the weights are stored. (default: the same)
            most (int, optional): The largest :math:`N_2` that is asked for, such as the points of
                an original. (default: any)

        Raises:
            BudgetError: If not even anchors of one point fit.
            TypeError, ValueError: If a number is none, or the size of what a codec stores depends
                on the values; if a codec takes no cloud of so many points as are asked for.
        """
        num_anchors = check_int("num_anchors", num_anchors)
        num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        codecs = (codec, weight_codec)
        largest = budget.largest(
            lambda num: cls._bits(budget, budget.num_groups, num_anchors, num, num_morphs, *codecs),
            None if most is None else check_int("most", most),
        )
        if largest < 1:
            groups = budget.num_classes * budget.num_groups
            weights = weight_codec.sure_bits((groups, num_morphs, num_anchors - 1))
            raise BudgetError(
                f"'num_anchors'={num_anchors} and 'num_morphs'={num_morphs} do not fit: their "
                f"weights take {-(-weights // groups)} of the {budget.bits // groups} bits of a "
                f"group (ppc={budget.ppc} clouds of {budget.num_points} points), which leaves no "
                f"room for {num_anchors} anchors of even one point"
            )
        return largest

    @classmethod
    def most_groups(
        cls,
        budget: StorageBudget,
        num_anchors: int,
        anchor_points: int,
        num_morphs: int,
        codec: Codec = FLOAT32,
        weight_codec: Codec = FLOAT32,
    ) -> int:
        r"""The largest number of groups per class :math:`K` that fits.

        Args:
            budget (StorageBudget): What may be stored.
            num_anchors (int): The number of anchors :math:`M` of a group.
            anchor_points (int): The number of points :math:`N_2` of an anchor.
            num_morphs (int): The number of morphs :math:`L` of a group whose weights are stored.
            codec (Codec): How the anchors are stored. (default: :class:`Float32`)
            weight_codec (Codec): How the weights are stored. (default: the same)

        Raises:
            TypeError: If a number is no integer.
            BudgetError: If not even one group fits.
            ValueError: If a number is too small, or the size of what a codec stores depends on the
                values.
        """
        num_anchors = check_int("num_anchors", num_anchors)
        anchor_points = check_int("anchor_points", anchor_points)
        num_morphs = check_int("num_morphs", num_morphs, minimum=0)

        def cost(ppc: int) -> int:
            sizes = (num_anchors, anchor_points, num_morphs)
            return cls._bits(budget, ppc, *sizes, codec, weight_codec)

        most = budget.largest(cost)
        if most < 1:
            raise BudgetError(
                f"'num_anchors'={num_anchors}, 'anchor_points'={anchor_points} and "
                f"'num_morphs'={num_morphs} do not fit: a group of every class takes {cost(1)} of "
                f"the {budget.bits} bits of ppc={budget.ppc} clouds of {budget.num_points} points"
            )
        return most

    @classmethod
    def most_morphs(
        cls,
        budget: StorageBudget,
        num_anchors: int,
        codec: Codec = FLOAT32,
        weight_codec: Codec = FLOAT32,
    ) -> int | None:
        r"""The largest :math:`L` that leaves :math:`M` anchors of a point each.

        Args:
            budget (StorageBudget): What may be stored, with a group in every whole cloud per class,
                or one where it is less than a cloud.
            num_anchors (int): The number of anchors :math:`M` of a group.
            codec (Codec): How the anchors are stored. (default: :class:`Float32`)
            weight_codec (Codec): How the weights are stored. (default: the same)

        Returns:
            The number, or :obj:`None` for one anchor, whose morphs cost nothing.

        Raises:
            TypeError, ValueError: If not even anchors of one point fit, or the size of what a codec
                stores depends on the values.
        """
        cls.largest_anchor_points(budget, num_anchors, 0, codec, weight_codec)
        if num_anchors == 1:
            return None
        codecs = (codec, weight_codec)
        return budget.largest(
            lambda num: cls._bits(budget, budget.num_groups, num_anchors, 1, num, *codecs)
        )

    @staticmethod
    def _bits(
        budget: StorageBudget,
        ppc: int,
        num_anchors: int,
        anchor_points: int,
        num_morphs: int,
        codec: Codec,
        weight_codec: Codec,
    ) -> int:
        """Those of so many groups per class, whose points share any labels of their class."""
        groups = budget.num_classes * ppc
        anchors = codec.sure_bits((groups, num_anchors, anchor_points, 3))
        weights = weight_codec.sure_bits((groups, num_morphs, num_anchors - 1))
        return anchors + weights + budget.label_bits
