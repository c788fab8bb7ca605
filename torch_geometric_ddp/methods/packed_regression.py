"""PKR: packed clouds, chosen and moved by kernel ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from torch_geometric_ddp._checks import check_float
from torch_geometric_ddp.matching import KernelRegression
from torch_geometric_ddp.methods.choosing import chosen_by_regression
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.optimizers import cosine
from torch_geometric_ddp.methods.storing import mirrored, packed
from torch_geometric_ddp.methods.trained_networks import TrainedNetworks
from torch_geometric_ddp.parameterization import PointSet

__all__ = ["pkr"]


def pkr(
    num_points: int = 64,
    depth: int = 6,
    mirror: bool = True,
    lr: float = 0.005,
    steps: int = 600,
    visits: int = 300,
    ridge: float = 0.01,
    ages: Sequence[int] = (0, 50, 100, 200, 400, 800, 1600),
    num_trained: int = 4,
    real_per_class: int = 100,
    name: str = "PKR",
) -> Method:
    r"""Packed kernel regression: as many small clouds as the bits hold, from which labels follow.

    Clouds of a few points are stored as sets at few bits
    (:class:`~torch_geometric_ddp.parameterization.PointSet`), each as one half that unfolds with
    its mirror image (:class:`~torch_geometric_ddp.parameterization.Mirrored`), as many as fit. A
    few networks are trained on the real clouds and kept at several ages
    (:class:`~torch_geometric_ddp.methods.TrainedNetworks`). Real clouds are chosen whose stored
    form predicts the labels of the others best
    (:func:`~torch_geometric_ddp.methods.chosen_by_regression`), and then their points move, seen
    through the rounding, to predict them better still
    (:class:`~torch_geometric_ddp.matching.KernelRegression`), by Adam with rates that fall by half
    a cosine.

    This method is not published elsewhere. Quantising distilled images within the loop is that of
    QuADD (arXiv 2603.02411), regression from distilled images that of KIP (arXiv 2011.00050) and
    FRePo (arXiv 2206.00719). Its settings were chosen on a validation split of ModelNet10.

    Args:
        num_points (int): The points of a stored cloud. (default: :obj:`64`)
        depth (int): The bits of a coordinate. (default: :obj:`6`)
        mirror (bool): Whether halves are stored, which unfold with their mirror images
            (:class:`~torch_geometric_ddp.parameterization.Mirrored`). (default: :obj:`True`)
        lr (float): The learning rate of the points, for clouds of the unit ball.
            (default: :obj:`0.005`)
        steps (int): The number of steps. (default: :obj:`600`)
        visits (int): How many times a cloud of the set is exchanged for a better one of 64 that
            are tried. (default: :obj:`300`)
        ridge (float): That of the regression. (default: :obj:`0.01`)
        ages (sequence of int): When a network is kept, in steps of training.
            (default: :obj:`(0, 50, 100, 200, 400, 800, 1600)`)
        num_trained (int): How many networks are trained. (default: :obj:`4`)
        real_per_class (int): The real clouds of each class that a network knows.
            (default: :obj:`100`)
        name (str): What its results are called. (default: :obj:`"PKR"`)

    Raises:
        TypeError, ValueError: If :obj:`depth`, :obj:`steps`, :obj:`num_points` or
            :obj:`visits` is no integer or out of range. What is wrong with the other arguments
            shows when a run begins.
    """
    check_float("lr", lr)
    check_float("ridge", ridge, exclusive=True)
    codec = PointSet(depth, half=mirror)
    storing = (mirrored if mirror else packed)(num_points, codec, lr)
    networks = partial(
        TrainedNetworks,
        ages=tuple(ages),
        num_trained=num_trained,
        real_per_class=real_per_class,
    )
    return Method(
        name,
        storing,
        partial(KernelRegression, ridge),
        steps,
        optimizer=torch.optim.Adam,
        networks=networks,
        choose=chosen_by_regression(storing.form, visits, ridge=ridge),
        schedule=cosine,
    )
