"""The published methods with their defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from torch_geometric_ddp._checks import check_callable, check_flag, check_number
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    UniformityAwareSADM,
)
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.optimizers import SGD, MakeOptimizer
from torch_geometric_ddp.methods.starts import Start, chosen_clouds, real_clouds, tanh_noise
from torch_geometric_ddp.methods.storing import full_resolution, morphing
from torch_geometric_ddp.parameterization import ANCHOR_LR, FLOAT32, Codec

__all__ = ["dc", "ddp", "dm", "pcc", "sadm"]


def dm(lr: float = 0.1, start: Start = real_clouds) -> Method:
    """Distribution matching of the mean pooled feature (DM, WACV 2023).

    Args:
        lr (float): The learning rate. (default: :obj:`0.1`, which a validation split of ModelNet10
            prefers to the :obj:`1.0` that is published for images)
        start (callable): Where the clouds start from. (default: :func:`real_clouds`)
    """
    return Method("DM", full_resolution(lr), DistributionMatching, 20000, start)


def dc(lr: float = 0.03, start: Start = tanh_noise, name: str = "DC") -> Method:
    """Gradient matching (DC, ICLR 2021).

    Args:
        lr (float): The learning rate. (default: :obj:`0.03`, which a validation split of ModelNet10
            prefers to the :obj:`0.1` that is published for images, and to less)
        start (callable): Where the clouds start from. (default: :func:`tanh_noise`, as published)
        name (str): What its results are called. (default: :obj:`"DC"`)
    """
    return Method(name, full_resolution(lr), GradientMatching, 1000, start, loops=_dc_loops)


def _dc_loops(ppc: float) -> tuple[int, int]:
    """Updates with every network and epochs of its training between, as published for DDP."""
    if ppc <= 10:
        return (1, 1) if ppc <= 1 else (5, 1)
    return int(ppc), max(1, 500 // int(ppc))


def pcc(choose: Callable[[PointCloudBank, int], Tensor], lr: float = 0.001) -> Method:
    """Gradient matching from the clouds nearest to their class mean in feature space (PCC).

    Args:
        choose (callable): Gives these clouds as indices :obj:`[C, num]`, see
            :func:`~torch_geometric_ddp.coreset.nearest_to_mean`.
        lr (float): The learning rate. (default: :obj:`0.001`, which a validation split of
            ModelNet10 prefers to more and to less; with more, the clouds lose what made them the
            nearest)

    Raises:
        TypeError, ValueError: If :obj:`choose` is not callable, or :obj:`lr` no rate.
    """
    check_callable("choose", choose, optional=False)
    return dc(lr, chosen_clouds(choose), "PCC")


def sadm(lr: float = 0.01, rotation_lr: float = 1e-5, start: Start = real_clouds) -> Method:
    """Matching of sorted features with learnable orientations (SADM, NeurIPS 2025).

    The published code scales the loss by 0.001, with learning rates of 10 and 0.01: folded into
    the learning rates here, that is the same.

    Args:
        lr (float): The learning rate of the points. (default: :obj:`0.01`)
        rotation_lr (float): That of the angle about the up axis, in radians.
            (default: :obj:`1e-5`)
        start (callable): Where the clouds start from. (default: :func:`real_clouds`)
    """
    matching = partial(SADM, absolute=False, weight=2.0, top_weight=1.0)
    return Method("SADM", full_resolution(lr, rotation_lr), matching, 1500, start)


def ddp(
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    uniformity_lambda: float = 1000.0,
    adaptive: bool = True,
    anchor_lr: float = ANCHOR_LR,
    weight_lr: float | None = None,
    *,
    start: Start = real_clouds,
    name: str | None = None,
    steps: int = 2000,
    batch_size: int = 8,
    optimizer: MakeOptimizer = SGD,
    sees_stored: bool = True,
    grouped: bool = True,
    align: bool = True,
    codec: Codec = FLOAT32,
    weight_codec: Codec = FLOAT32,
    fill: bool = False,
    **kwargs: Any,
) -> Method:
    r"""Learnable shape morphing with uniformity-aware matching.

    *Parameterization-Based Dataset Distillation of 3D Point Clouds through Learnable Shape
    Morphing* (DDP, ICLR 2026): anchors start from real clouds of every class, and they and the
    convex weights of their morphs (:class:`~torch_geometric_ddp.parameterization.ShapeMorphing`)
    are optimised together to look like the real clouds to random networks
    (:class:`~torch_geometric_ddp.matching.UniformityAwareSADM`).

    Args:
        num_anchors (int): Anchors per group :math:`M`. (default: :obj:`4`)
        anchor_points (int, optional): Points per anchor :math:`N_2`. (default: as many as fit)
        num_morphs (int): Morphs per group :math:`L`. (default: :obj:`16`)
        uniformity_lambda (float): The sharpness :math:`\lambda` of the uniformity penalty; 0 is the
            ablation without :math:`\eta`. (default: :obj:`1000.0`)
        adaptive (bool): Whether the weights are learned. (default: :obj:`True`)
        anchor_lr (float): The learning rate of the anchors. (default: that of
            :class:`~torch_geometric_ddp.parameterization.ShapeMorphing`)
        weight_lr (float, optional): The learning rate of the weights. (default: a tenth of that of
            the anchors)
        start (callable): Where the anchors start from. (default: :func:`real_clouds`)
        name (str, optional): What its results are called. (default: :obj:`"DDP"`, or
            :obj:`"DDP-static"`)
        steps (int): The number of steps. (default: :obj:`2000`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        optimizer (callable): Makes the optimiser. (default: SGD with a momentum of 0.5)
        sees_stored (bool): Whether optimisation sees what codecs store; otherwise they round
            afterwards. (default: :obj:`True`)
        grouped (bool): Whether the features of labelled points are sorted within their parts.
            (default: :obj:`True`)
        align (bool): Whether the anchors of a group are aligned. (default: :obj:`True`)
        codec (Codec): How the anchors are stored. (default:
            :class:`~torch_geometric_ddp.parameterization.Float32`)
        weight_codec (Codec): How the weights are stored. (default: the same)
        fill (bool): Whether a class has as many groups of :obj:`anchor_points` points as fit, see
            :func:`morphing`. (default: :obj:`False`)
        **kwargs: The learning rate :obj:`rotation_lr` of learned turns, see :func:`morphing`.

    Raises:
        TypeError: If an argument is of another type, or :obj:`kwargs` hold another one.
        ValueError: If :obj:`uniformity_lambda`, :obj:`steps` or a learning rate is negative,
            :obj:`batch_size` below one, a number of :func:`morphing` too small, or :obj:`fill`
            without :obj:`anchor_points`. Whether it fits the storage shows when a run begins.
    """
    uniformity_lambda = check_number("uniformity_lambda", uniformity_lambda)
    check_flag("grouped", grouped)
    if not check_flag("align", align):
        kwargs["align"] = False  # Otherwise not told, as a checkpoint made before does not.
    storing = morphing(
        num_anchors,
        anchor_points,
        num_morphs,
        adaptive,
        codec,
        weight_codec,
        fill,
        anchor_lr=anchor_lr,
        weight_lr=weight_lr,
        **kwargs,
    )
    name = name or ("DDP" if adaptive else "DDP-static")
    matching = partial(UniformityAwareSADM, uniformity_lambda, grouped=grouped)
    return Method(
        name, storing, matching, steps, start, batch_size, optimizer, sees_stored=sees_stored
    )
