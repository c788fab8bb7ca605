"""Named methods: a parameterization and a matching, with the published defaults."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_float, check_int
from torch_geometric_ddp._versions import versions
from torch_geometric_ddp.bank import PointCloudBank
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.datasets.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.distillation import Distillation
from torch_geometric_ddp.matching import (
    SADM,
    DistributionMatching,
    GradientMatching,
    Matching,
    UniformityAwareSADM,
)
from torch_geometric_ddp.nn import Backbone, PointNet
from torch_geometric_ddp.parameterization import FullResolution, Parameterization, ShapeMorphing
from torch_geometric_ddp.starts import Start, chosen_clouds, real_clouds, tanh_noise

__all__ = ["Method", "Storing", "dc", "ddp", "dm", "full_resolution", "morphing", "pcc", "sadm"]

#: Makes the parameterization of a budget, given where its clouds start from.
Storing = Callable[[PointCloudBank, StorageBudget, Start, torch.Generator], Parameterization]


@dataclass(frozen=True)
class Method:
    r"""A way to distil a data set: how it is stored and what is matched.

    Every parameterization goes with every matching, also those that no paper has tried:

    .. code-block:: python

        # Gradient matching on anchors and morphs.
        method = Method("DC on morphs", morphing(num_morphs=4), GradientMatching, steps=1000)
        synthetic = method.distill(dataset, ppc=1)

    Args:
        name (str): What its results are called.
        storing (callable): Makes the parameterization, see :func:`full_resolution` and
            :func:`morphing`.
        matching (callable): Makes the loss.
        steps (int): The published number of steps.
        start (callable): Where the stored clouds start from. (default: :func:`real_clouds`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`)
        loops (callable): The updates with every network and the epochs of its training between
            them, from the number of clouds per class. (default: always one, so that no network is
            trained)
    """

    name: str
    storing: Storing
    matching: Callable[[], Matching]
    steps: int
    start: Start = real_clouds
    batch_size: int = 8
    momentum: float = 0.5
    loops: Callable[[int], tuple[int, int]] = lambda ppc: (1, 1)

    def __post_init__(self) -> None:
        check_int("steps", self.steps, minimum=0)
        check_int("batch_size", self.batch_size)
        check_float("momentum", self.momentum)

    def begin(
        self,
        bank: PointCloudBank,
        ppc: int = 1,
        seed: int = 0,
        network: Callable[[int], Backbone] = PointNet,
    ) -> Distillation:
        """The loop before its first step, within the storage of :obj:`ppc` clouds per class.

        Raises:
            ValueError: If what would be stored exceeds the budget.
        """
        bank.check_every_class()
        budget = StorageBudget(bank.dense().size(1), bank.num_classes, check_int("ppc", ppc))
        generator = torch.Generator().manual_seed(check_int("seed", seed, minimum=0))
        parameterization = self.storing(bank, budget, self.start, generator)
        budget.check(parameterization)
        outer, inner = self.loops(ppc)
        return Distillation(
            bank,
            parameterization,
            self.matching(),
            network,
            self.batch_size,
            self.momentum,
            generator,
            outer_loops=outer,
            inner_epochs=inner,
        )

    def distill(
        self,
        dataset: Iterable[Data],
        ppc: int = 1,
        *,
        steps: int | None = None,
        network: Callable[[int], Backbone] = PointNet,
        normalize: bool = True,
        seed: int = 0,
        device: torch.device | str | None = None,
        source: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = True,
        callback: Callable[[Distillation], None] | None = None,
    ) -> SyntheticPointCloudDataset:
        """Distils a data set; see :func:`~torch_geometric_ddp.distill.distill`.

        Args:
            dataset (Dataset): The real set.
            ppc (int): The storage, in full-resolution clouds per class. (default: :obj:`1`)
            steps (int, optional): Optimisation steps. (default: as published)
            network (callable): Makes a backbone from the number of classes. (default:
                :obj:`PointNet`)
            normalize (bool): Whether the real clouds are centred and scaled to the unit ball.
                (default: :obj:`True`)
            seed (int): Makes the run repeatable. (default: :obj:`0`)
            device (torch.device, optional): Where to compute. (default: where the clouds lie)
            source (str, optional): What to call the real set. (default: its name or class)
            checkpoint (str or path, optional): A file for the state of the run.
            progress (bool): Whether to show progress bars. (default: :obj:`True`)
            callback (callable, optional): Called with the loop after every step.
        """
        steps = self.steps if steps is None else check_int("steps", steps, minimum=0)
        check_int("ppc", ppc)
        check_int("seed", seed, minimum=0)
        bank = PointCloudBank.from_dataset(dataset, device, progress=progress)
        bank = bank.normalize() if normalize else bank
        loop = self.begin(bank, ppc, seed, network)
        if checkpoint is not None and Path(checkpoint).exists():
            loop.load_checkpoint(checkpoint)
        loop.run(steps, progress, checkpoint, callback=callback)
        source = source or getattr(dataset, "name", None) or type(dataset).__name__
        return self.finish(loop, source=source, normalize=normalize)

    def finish(self, loop: Distillation, **provenance: Any) -> SyntheticPointCloudDataset:
        """The set that a loop has distilled so far, on the CPU, with how it was made."""
        bank, parameterization = loop.bank, loop.parameterization
        budget = StorageBudget(bank.dense().size(1), bank.num_classes, parameterization.ppc)
        provenance = {
            "method": self.name,
            "num_points": budget.num_points,
            "ppc": budget.ppc,
            "bits": budget.check(parameterization),
            "budget_bits": budget.bits,
            "steps": loop.num_steps,
            **provenance,
            **loop.config(),
            **parameterization.config(),
            "versions": versions(),
        }
        stored = copy.deepcopy(parameterization).cpu()  # The loop may go on with its own.
        return SyntheticPointCloudDataset(
            stored, class_names=bank.class_names, provenance=provenance
        )


def full_resolution(lr: float = 1.0, rotation_lr: float | None = None) -> Storing:
    """Stores :obj:`ppc` clouds per class as they are.

    Args:
        lr (float): The learning rate of the points. (default: :obj:`1.0`)
        rotation_lr (float, optional): That of the clouds' turns about the up axis, see
            :class:`~torch_geometric_ddp.parameterization.Rotation`. (default: no turns)
    """

    def store(
        bank: PointCloudBank, budget: StorageBudget, start: Start, generator: torch.Generator
    ) -> Parameterization:
        clouds = start(bank, budget.ppc, generator).flatten(0, 1)
        return FullResolution(clouds, bank.num_classes, lr, rotation_lr)

    return store


def morphing(
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    adaptive: bool = True,
    **kwargs: Any,
) -> Storing:
    """Stores anchors and the weights of their morphs.

    Args:
        num_anchors (int): Anchors per group :math:`M`. (default: :obj:`4`)
        anchor_points (int, optional): Points per anchor :math:`N_2`. (default: as many as fit)
        num_morphs (int): Morphs per group :math:`L`. (default: :obj:`16`)
        adaptive (bool): Whether the weights are learned. (default: :obj:`True`)
        **kwargs: Further arguments of
            :class:`~torch_geometric_ddp.parameterization.ShapeMorphing`.
    """

    def store(
        bank: PointCloudBank, budget: StorageBudget, start: Start, generator: torch.Generator
    ) -> Parameterization:
        largest = budget.largest_anchor_points(num_anchors, num_morphs if adaptive else 0)
        if anchor_points is not None and check_int("anchor_points", anchor_points) > largest:
            raise ValueError(
                f"'anchor_points'={anchor_points} does not fit the storage of ppc={budget.ppc} "
                f"clouds of {budget.num_points} points per class: with num_anchors={num_anchors} "
                f"and num_morphs={num_morphs} it is at most {largest}"
            )
        clouds = start(bank, budget.ppc * num_anchors, generator)
        points = largest if anchor_points is None else anchor_points
        return ShapeMorphing.from_clouds(
            clouds, num_anchors, points, num_morphs, generator, adaptive, **kwargs
        )

    return store


def dm(lr: float = 1.0, start: Start = real_clouds) -> Method:
    """Distribution matching of the mean pooled feature (DM, WACV 2023).

    Args:
        lr (float): The learning rate. (default: :obj:`1.0`, published for images)
        start (callable): Where the clouds start from. (default: :func:`real_clouds`)
    """
    return Method("DM", full_resolution(lr), DistributionMatching, 20000, start)


def dc(lr: float = 0.1, start: Start = tanh_noise, name: str = "DC") -> Method:
    """Gradient matching (DC, ICLR 2021).

    Args:
        lr (float): The learning rate. (default: :obj:`0.1`, published for images)
        start (callable): Where the clouds start from. (default: :func:`tanh_noise`, as published)
        name (str): What its results are called. (default: :obj:`"DC"`)
    """
    return Method(name, full_resolution(lr), GradientMatching, 1000, start, loops=_dc_loops)


def _dc_loops(ppc: int) -> tuple[int, int]:
    """Updates with every network and epochs of its training between, as published for DDP."""
    if ppc <= 10:
        return (1, 1) if ppc == 1 else (5, 1)
    return ppc, max(1, 500 // ppc)


def pcc(choose: Callable[[PointCloudBank, int], Tensor], lr: float = 0.1) -> Method:
    """Gradient matching from the clouds nearest to their class mean in feature space (PCC).

    Args:
        choose (callable): Gives these clouds as indices :obj:`[C, num]`, see
            :func:`~torch_geometric_ddp.coreset.nearest_to_mean`.
        lr (float): The learning rate. (default: :obj:`0.1`, DC's)
    """
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
    uniformity_lambda: float = 1000.0,
    lr: float = 2.5,
    start: Start = real_clouds,
    name: str | None = None,
    steps: int = 2000,
    batch_size: int = 8,
    momentum: float = 0.5,
    **kwargs: Any,
) -> Method:
    r"""Learnable shape morphing with uniformity-aware matching (DDP, ICLR 2026).

    Args:
        uniformity_lambda (float): The sharpness :math:`\lambda` of the uniformity penalty; 0 is the
            ablation without :math:`\eta`. (default: :obj:`1000.0`)
        lr (float): The learning rate of the anchors; the weights have a tenth unless
            :obj:`weight_lr` says otherwise. (default: :obj:`2.5`, between the paper's 10 and the
            published code's 100, both on a loss scaled by 0.08: 0.8 and 8 here)
        start (callable): Where the anchors start from. (default: :func:`real_clouds`)
        name (str, optional): What its results are called. (default: :obj:`"DDP"`, or
            :obj:`"DDP-static"`)
        steps (int): The number of steps. (default: :obj:`2000`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`)
        **kwargs: Arguments of :func:`morphing`, such as :obj:`num_anchors` or :obj:`adaptive`.
    """
    check_float("uniformity_lambda", uniformity_lambda)
    rates = {"anchor_lr": lr, "weight_lr": lr / 10}
    name = name or ("DDP" if kwargs.get("adaptive", True) else "DDP-static")
    matching = partial(UniformityAwareSADM, uniformity_lambda)
    return Method(
        name, morphing(**{**rates, **kwargs}), matching, steps, start, batch_size, momentum
    )
