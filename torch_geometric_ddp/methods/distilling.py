"""Distillation of a data set by a method or its name, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._gradients import with_gradients
from torch_geometric_ddp.methods.loop import Distillation
from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.registry import find_method
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task

__all__ = ["distill"]


@with_gradients
def distill(
    dataset: Iterable[Data],
    ppc: float = 1,
    method: Method | str = "ddp",
    *,
    steps: int | None = None,
    network: Callable[..., Backbone] | None = None,
    task: Task | str = "classification",
    normalize: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    source: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    classes_per_chunk: int | None = None,
    progress: bool = True,
    callback: Callable[[Distillation], None] | None = None,
    retries: int = 0,
    stream: bool = False,
    cache: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    r"""Distils a labelled set of point clouds into a set a hundred times smaller.

    The storage of the result is at most that of :obj:`ppc` clouds per class
    (:class:`~torch_geometric_ddp.budget.StorageBudget`). How it is stored, what is matched and with
    which settings is said by the method, :func:`~torch_geometric_ddp.methods.ddp` unless another is
    asked for.

    With :obj:`task="segmentation"` the points are labelled with parts, the classes are the
    categories of shapes, and stored clouds carry part labels: alignment, morphs and matching stay
    within the parts (:class:`~torch_geometric_ddp.clouds.LabelledBank`).

    .. code-block:: python

        dataset = ModelNet(root, '10', True, transform=...)
        synthetic = distill(dataset, ppc=1)
        synthetic.save('modelnet10_ppc1.safetensors')

        static = distill(dataset, 1, ddp(num_anchors=4, adaptive=False))
        rival = distill(dataset, 1, 'sadm')

    Args:
        dataset (Dataset): The real set: items with :obj:`pos [N1, 3]` and one label :obj:`y` (for
            segmentation the parts :obj:`y [N1]` and one :obj:`category`), all of one size, every
            class with at least one cloud. It is read once. Of a cloud only :obj:`pos` and the
            labels are read: features, normals and colours are left out.
        ppc (float): The storage, in full-resolution clouds per class :math:`K`, also a part of one
            where the method stores what is smaller. (default: :obj:`1`)
        method (Method or str): The method with its settings, or the name of one of
            :obj:`~torch_geometric_ddp.methods.METHODS`. (default: :obj:`"ddp"`)
        steps (int, optional): Optimisation steps. (default: those of the method)
        network (callable, optional): Makes a backbone from the number of classes, or from the
            numbers of parts and categories. (default: :obj:`PointNet`, or
            :obj:`PointNetSegmentation`)
        task (Task or str): What the networks learn, such as :obj:`"classification"` or
            :obj:`"segmentation"`. (default: :obj:`"classification"`)
        normalize (bool): Whether the real clouds are centred and scaled to the unit ball as they
            are read, as :meth:`evaluate` does; the learning rates are for clouds of that size.
            (default: :obj:`True`)
        seed (int): Makes the run repeatable on one CPU and number of threads, with the same
            :obj:`classes_per_chunk`; on a GPU up to the last bits. (default: :obj:`0`)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        source (str, optional): What to call the real set in the provenance. (default: its
            :obj:`name` or class)
        checkpoint (str or path, optional): A file for the state of the run. If it exists, the run
            goes on from there, on a CPU bit for bit. It may then have more :obj:`steps`, but not
            with a method whose learning rates follow a schedule over them, such as
            :func:`~torch_geometric_ddp.methods.pkr`.
        classes_per_chunk (int, optional): How many classes are computed at a time; fewer need less
            memory and change the last bits. (default: as many as 4 GiB hold, whatever is free)
        progress (bool): Whether to say on the error output what is going to be done, and to show
            bars; that of the steps says after the first ones how long they take.
            (default: :obj:`True`)
        callback (callable, optional): Called with the :class:`Distillation` after every step.
        retries (int): How many times a run whose loss or parameters are not finite goes back to its
            last good state, at most 50 steps before, and goes on with half the learning rates.
            (default: :obj:`0`)
        stream (bool): Whether the real clouds stay where they lie, such as in the memory of the
            host, and only those of a step go to :obj:`device`, the next ones while the last ones
            are compared. (default: :obj:`False`)
        cache (str or path, optional): A folder for what is computed of the real clouds before the
            first step, in files by the content of the clouds. A later run finds it there. It is
            mapped into memory, of which no more than needed is read; networks that were trained on
            the clouds are read. (default: it is computed in
            every process, and held in memory)
        class_names (sequence of str, optional): The names of the classes by their labels, for a
            list of clouds or another set that does not name them. The distilled set keeps them,
            and pictures and tables use them. (default: those of the data set, else the numbers)
        quotas (str or sequence of float): How the storage is divided among the classes:
            :obj:`"uniform"`, as much for every class; :obj:`"size"`, in proportion to its real
            clouds, or :obj:`"sqrt-size"`, to the square root of their number; or numbers above 0,
            one for every class, to which it is proportional, such as errors on a validation split.
            All of it stays the same, and every class has at least one group of clouds
            (:func:`~torch_geometric_ddp.quotas.largest_remainders`). Per-class quotas weigh overall
            against mean class accuracy on long-tailed sets (*Exploring 3D Dataset Pruning*, arXiv
            2603.00651). (default: :obj:`"uniform"`)

    Returns:
        The distilled set, on the CPU.

    Raises:
        TypeError: If an argument is of another type than said above, :obj:`network` makes no
            :class:`~torch_geometric_ddp.nn.Backbone`, or an item of :obj:`dataset` has points that
            are not floating point.
        ValueError: If :obj:`ppc` is not above 0 or asks for more than the whole set;
            :obj:`classes_per_chunk` is below one or given with a method that compares all classes
            at once; :obj:`steps`, :obj:`seed` or :obj:`retries` is negative, or :obj:`steps` below
            those of the checkpoint; if :obj:`method` or :obj:`task` is no known name; if
            :obj:`class_names` are not as many as the classes, or two are alike, or points have
            parts, whose set names its categories itself; if :obj:`dataset` is empty, has clouds of
            different sizes or not finite, labels other than the task needs, or a class without
            clouds; if
            what the method stores exceeds the storage; if :obj:`quotas` are no known name, have not
            a number above 0 for every class, or the method or the task has nothing to divide by
            them, as where the storage has room for one group of a class; if :obj:`device` cannot be
            used; if :obj:`cache` is no folder; or if :obj:`checkpoint` cannot be written, is
            damaged or of a run with other settings or data. All of these come before the first
            step.
        MemoryError: If the method would take more memory than is free, before it is taken.
        FloatingPointError: If a loss or a parameter is not finite and no retry is left.
        ConnectionError: If another rank has stopped.
    """
    return find_method(method).distill(
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
        classes_per_chunk=classes_per_chunk,
        progress=progress,
        callback=callback,
        retries=retries,
        stream=stream,
        cache=cache,
        class_names=class_names,
        quotas=quotas,
    )
