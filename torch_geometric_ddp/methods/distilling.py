"""The one function that most people need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.methods.loop import Distillation
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task

__all__ = ["distill"]


def distill(
    dataset: Iterable[Data],
    ppc: int = 1,
    *,
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    uniformity_lambda: float = 1000.0,
    adaptive: bool = True,
    steps: int = 2000,
    batch_size: int = 8,
    network: Callable[..., Backbone] | None = None,
    task: Task | str = "classification",
    anchor_lr: float = 2.5,
    weight_lr: float = 0.25,
    momentum: float = 0.5,
    normalize: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    source: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    callback: Callable[[Distillation], None] | None = None,
) -> SyntheticPointCloudDataset:
    r"""Distils a labelled set of point clouds into a set a hundred times smaller, by DDP.

    *Parameterization-Based Dataset Distillation of 3D Point Clouds through Learnable Shape
    Morphing* (ICLR 2026): anchors start from real clouds of every class, and they and the convex
    weights of their morphs (:class:`~torch_geometric_ddp.parameterization.ShapeMorphing`) are
    optimised together to look like the real clouds to random networks
    (:class:`~torch_geometric_ddp.matching.UniformityAwareSADM`), within the storage of
    :obj:`ppc` clouds per class (:class:`~torch_geometric_ddp.budget.StorageBudget`).

    With :obj:`task="segmentation"` the points are labelled with parts, the classes are the
    categories of shapes, and anchors carry part labels: alignment, morphs and matching stay within
    the parts (:class:`~torch_geometric_ddp.clouds.labelled_bank.LabelledBank`).

    .. code-block:: python

        synthetic = distill(ModelNet(root, '10', True, transform=...), ppc=1)
        synthetic.save('modelnet10_ppc1.safetensors')

    Args:
        dataset (Dataset): The real set: items with :obj:`pos [N1, 3]` and one label :obj:`y` (for
            segmentation the parts :obj:`y [N1]` and one :obj:`category`), all of one size, every
            class with at least one cloud. It is read once.
        ppc (int): The storage, in full-resolution clouds per class :math:`K`. (default: :obj:`1`)
        num_anchors (int): Anchors per group :math:`M`. (default: :obj:`4`)
        anchor_points (int, optional): Points per anchor :math:`N_2`. (default: as many as fit)
        num_morphs (int): Morphs per group :math:`L`. (default: :obj:`16`)
        uniformity_lambda (float): The sharpness :math:`\lambda` of the uniformity penalty.
            (default: :obj:`1000.0`)
        adaptive (bool): Whether the weights are learned. (default: :obj:`True`)
        steps (int): Optimisation steps. (default: :obj:`2000`)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        network (callable, optional): Makes a backbone from the number of classes, or from the
            numbers of parts and categories. (default: :obj:`PointNet`, or
            :obj:`PointNetSegmentation`)
        task (str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)
        anchor_lr (float): Learning rate of the anchors. (default: :obj:`2.5`, chosen on a
            validation split of ModelNet10; the paper has 10 and its code 100, on a loss scaled by
            0.08: 0.8 and 8 here)
        weight_lr (float): Learning rate of the weights. (default: :obj:`0.25`; published likewise
            0.8)
        momentum (float): The momentum of SGD. (default: :obj:`0.5`)
        normalize (bool): Whether the real clouds are centred and scaled to the unit ball as they
            are read, as :meth:`evaluate` does; the learning rates are for clouds of that size.
            (default: :obj:`True`)
        seed (int): Makes the run repeatable on one device and number of threads.
            (default: :obj:`0`)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        source (str, optional): What to call the real set in the provenance. (default: its
            :obj:`name` or class)
        checkpoint (str or path, optional): A file for the state of the run. If it exists, the run
            goes on from there, bit for bit.
        progress (bool): Whether to show progress bars. (default: :obj:`True`)
        callback (callable, optional): Called with the :class:`Distillation` after every step.

    Returns:
        The distilled set, on the CPU.

    Raises:
        TypeError, ValueError: If the data or an argument do not fit, before any long work.
    """
    method = ddp(
        num_anchors=num_anchors,
        anchor_points=anchor_points,
        num_morphs=num_morphs,
        uniformity_lambda=uniformity_lambda,
        adaptive=adaptive,
        anchor_lr=anchor_lr,
        weight_lr=weight_lr,
        momentum=momentum,
        batch_size=batch_size,
    )
    return method.distill(
        dataset,
        ppc,
        steps=steps,
        network=network,
        task=task,
        normalize=normalize,
        seed=seed,
        device=device,
        source=source,
        checkpoint=checkpoint,
        progress=progress,
        callback=callback,
    )
