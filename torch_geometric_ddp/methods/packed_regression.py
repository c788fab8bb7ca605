"""PKR: packed clouds, chosen and moved by kernel ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from torch_geometric_ddp._checks import check_flag, check_number
from torch_geometric_ddp.budget import BudgetError, StorageBudget
from torch_geometric_ddp.matching import KernelRegression
from torch_geometric_ddp.methods.choosing import chosen_by_regression
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.optimizers import cosine
from torch_geometric_ddp.methods.storing import mirrored, packed
from torch_geometric_ddp.methods.trained_networks import TrainedNetworks
from torch_geometric_ddp.parameterization import FullResolution, Mirrored, PointSet
from torch_geometric_ddp.quotas import Quotas

__all__ = ["packed_count", "packed_size", "pkr"]

# The points of a cloud among which a budget chooses, and how many clouds a class shall have.
_SIZES, _ENOUGH = (128, 64, 32), 48


def pkr(
    num_points: int | None = None,
    depth: int | None = None,
    mirror: bool = True,
    lr: float = 0.005,
    steps: int = 600,
    visits: int = 300,
    ridge: float = 0.01,
    ages: Sequence[int] = (0, 50, 100, 200, 400, 800, 1600),
    num_trained: int = 4,
    real_per_class: int = 100,
    weigh: Quotas = "size",
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

    Choosing holds the features of all real clouds in every network, and 16 bytes for every pair of
    the set's clouds: with the 28 networks of the defaults and the 4,000 clouds of ModelNet10 370
    chosen ones take 1.5 GB, 2,500 take 5.7 and 13,000 take 85. What is more than is free is refused
    before a network is trained. Less storage, clouds of more points, fewer networks or no
    :obj:`visits` take less.

    Small clouds are for networks that see every point by itself: trained on 32 points, those of
    neighbourhoods (DGCNN) learn next to nothing of clouds of 1,024.

    This method is not published elsewhere. Quantising distilled images within the loop is that of
    QuADD (arXiv 2603.02411), regression from distilled images that of KIP (arXiv 2011.00050) and
    FRePo (arXiv 2206.00719). Its settings were chosen on a validation split of ModelNet10.

    Args:
        num_points (int, optional): The points of a stored cloud. (default: the most of 128, 64 and
            32 of which 48 clouds per class fit, or 32 where not even 48 of those do; never more
            than a real cloud has)
        depth (int, optional): The bits of a coordinate. (default: 5 for clouds of up to 32 points,
            which need fewer, and 6 for others)
        mirror (bool): Whether halves are stored, which unfold with their mirror images
            (:class:`~torch_geometric_ddp.parameterization.Mirrored`). (default: :obj:`True`)
        lr (float): The learning rate of the points, for clouds of the unit ball.
            (default: :obj:`0.005`)
        steps (int): The number of steps. (default: :obj:`600`)
        visits (int): How many places of the set are visited. The best of 64 clouds that are tried
            takes the place, if it is better than the one there; at 0 a random draw stays.
            (default: :obj:`300`)
        ridge (float): That of the regression. (default: :obj:`0.01`)
        ages (sequence of int): When a network is kept, in steps of training.
            (default: :obj:`(0, 50, 100, 200, 400, 800, 1600)`)
        num_trained (int): How many networks are trained. (default: :obj:`4`)
        real_per_class (int): The real clouds of each class that a network knows.
            (default: :obj:`100`)
        weigh (str or sequence of float): How much the classes weigh in the regression. By
            :obj:`"size"` every real cloud counts alike, as in training on all of them; by
            :obj:`"uniform"` every class does, which is fairer to small ones.
            (default: :obj:`"size"`)
        name (str): What its results are called. (default: :obj:`"PKR"`)

    Raises:
        TypeError, ValueError: If :obj:`depth`, :obj:`steps`, :obj:`num_points` or
            :obj:`visits` is no integer or out of range, :obj:`mirror` not true or false, :obj:`lr`
            no rate, or :obj:`weigh` no weights. What is wrong with the other arguments shows when a
            run begins.
        MemoryError: When a run begins, if choosing takes more memory than is free.
    """
    lr, ridge = check_number("lr", lr), check_number("ridge", ridge, exclusive=True)
    check_flag("mirror", mirror)

    networks = partial(
        TrainedNetworks,
        ages=tuple(ages),
        num_trained=num_trained,
        real_per_class=real_per_class,
    )

    def of(num_points: int, depth: int) -> Method:
        codec = PointSet(depth, half=mirror)
        storing = (mirrored if mirror else packed)(num_points, codec, lr)
        return Method(
            name,
            storing,
            partial(KernelRegression, ridge, weigh=weigh),
            steps,
            optimizer=torch.optim.Adam,
            networks=networks,
            choose=chosen_by_regression(storing.form, visits, ridge=ridge, weigh=weigh),
            schedule=cosine,
        )

    if num_points is not None:
        return of(num_points, _depth(num_points) if depth is None else depth)
    usual = of(_SIZES[-1], _depth(_SIZES[-1]) if depth is None else depth)
    return replace(usual, within=lambda budget: of(*packed_size(budget, depth, mirror)))


def packed_size(
    budget: StorageBudget, depth: int | None = None, mirror: bool = True
) -> tuple[int, int]:
    """The points of a cloud and the bits of a coordinate that :func:`pkr` takes by itself.

    Args:
        budget (StorageBudget): What may be stored.
        depth (int, optional): The bits, if they are given. (default: see :func:`pkr`)
        mirror (bool): Whether halves are stored. (default: :obj:`True`)
    """
    most = max(budget.num_points - budget.num_points % 2, 2)
    sizes = [(n, _depth(n) if depth is None else depth) for n in (min(s, most) for s in _SIZES)]
    enough = (size for size in sizes if packed_count(budget, *size, mirror) >= _ENOUGH)
    return next(enough, sizes[-1])


def packed_count(budget: StorageBudget, num_points: int, depth: int, mirror: bool = True) -> int:
    """How many packed clouds per class fit, which may be none.

    Args:
        budget (StorageBudget): What may be stored.
        num_points (int): The points of a cloud.
        depth (int): The bits of a coordinate.
        mirror (bool): Whether halves are stored. (default: :obj:`True`)
    """
    store = Mirrored if mirror else FullResolution
    try:
        return store.clouds_that_fit(budget, num_points, PointSet(depth, half=mirror))
    except BudgetError:
        return 0


def _depth(num_points: int) -> int:
    return 5 if num_points <= _SIZES[-1] else 6
