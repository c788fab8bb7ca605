"""Callbacks of a distillation: what a tracker of experiments is told, step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp import evaluation
from torch_geometric_ddp._checks import check_callable, check_dataset, check_int, check_maker
from torch_geometric_ddp._files import check_folder
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.evaluation import QUICK, evaluate, seed_list
from torch_geometric_ddp.evaluation.protocol import check_protocol
from torch_geometric_ddp.methods import Distillation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Callback", "Clouds", "Looks", "TensorBoardLogger", "Told", "Tracker"]


class Callback(Protocol):
    """What :func:`~torch_geometric_ddp.distill` calls after every step.

    Any function of the loop will do. It may read whatever the loop has, of which
    :attr:`~torch_geometric_ddp.Distillation.losses`,
    :attr:`~torch_geometric_ddp.Distillation.num_steps` and the rates of its optimiser lie on the
    host; whatever it reads of the parameters makes a GPU wait. What it changes of them changes the
    run. An exception that it raises ends the run, and the checkpoint stays. Where several ranks
    distil, all of them need the same callback, since they read losses together.
    """

    def __call__(self, loop: Distillation, /) -> object:
        """Called with the loop, whose last step is finished."""


class Told(Protocol):
    """What a :class:`Tracker` tells beside losses and learning rates, every so many steps.

    One with a method :obj:`begin(loop)` is given the loop after the first step, too, so that it can
    refuse early what it cannot do.
    """

    #: Steps between two times.
    every: int

    def __call__(self, loop: Distillation, /) -> Mapping[str, Any]:
        """What there is to tell, by name."""


class Tracker:
    """A callback that hands losses, learning rates and more to a function :obj:`log(dict, step)`.

    The trackers that are in use have such a function, which is all that is known of them here:

    .. code-block:: python

        distill(dataset, callback=Tracker(wandb.log))
        distill(dataset, callback=Tracker(mlflow.log_metrics))
        distill(dataset, callback=Tracker(CSVLogger("logs").log_metrics))  # Of Lightning.

    It is told :obj:`loss`, the mean over the classes of the sum that a step gives, and the learning
    rates as :obj:`lr/anchors` and so on, by the names of the parameters. Both are known to the
    host: nothing is read back from a device. After a retry the steps that were undone come again.
    Of several ranks the first one tells, when it has read the losses: up to ten steps at once.

    Args:
        log (callable): Takes a dictionary and the number of the step.
        *more (Told): What else is told, such as :class:`Looks` and :class:`Clouds`.
        every (int): Steps between two losses that are told. (default: :obj:`1`)

    Raises:
        TypeError: If :obj:`log` or one of :obj:`more` is not callable, or :obj:`every` no integer.
        ValueError: If :obj:`every` is below one.
    """

    def __init__(
        self, log: Callable[[dict[str, Any], int], object], *more: Told, every: int = 1
    ) -> None:
        check_callable("log", log, optional=False)
        for one in more:
            check_callable("more", one, optional=False)
            check_int("more.every", getattr(one, "every", None))
        self.log, self.more, self.every = log, more, check_int("every", every)
        # What is known of steps whose losses were not read yet.
        self._waiting: dict[int, dict[str, Any]] = {}
        self._has_begun = False

    def __call__(self, loop: Distillation) -> None:
        """Tells what is due after the last step, and what waited for its loss."""
        step = loop.num_steps
        for one in () if self._has_begun else self.more:
            getattr(one, "begin", lambda _: None)(loop)
        self._has_begun = True
        told = _rates(loop) if step % self.every == 0 else {}
        for one in self.more:
            if step % one.every == 0:
                told.update(one(loop))
        # A retry has undone the steps from this one on.
        waiting = {s: t for s, t in self._waiting.items() if s < step}
        if told:
            waiting[step] = told
        losses = loop.losses
        for s in [s for s in waiting if s <= len(losses)]:
            told = waiting.pop(s)
            if s % self.every == 0:
                told = {"loss": losses[s - 1] / loop.bank.num_classes, **told}
            if loop.ranks.first:
                self.log(told, s)
        self._waiting = waiting


def _rates(loop: Distillation) -> dict[str, Any]:
    """The learning rates by the first parameter of each group."""
    names = {id(p): name for name, p in loop.parameterization.named_parameters()}
    groups = loop.optimizer.param_groups
    return {f"lr/{names.get(id(g['params'][0]), i)}": float(g["lr"]) for i, g in enumerate(groups)}


class Looks:
    """What networks reach that are trained on the set as it stands: :obj:`accuracy` or the mIoU.

    A look trains networks from scratch, which takes as long as
    :func:`~torch_geometric_ddp.evaluate` does, and leaves the run as it is. Give it clouds that
    were held out (:func:`~torch_geometric_ddp.clouds.hold_out`) if anything is chosen by it.

    Args:
        test_set (Dataset): Labelled clouds, which are read once.
        every (int): Steps between two looks. (default: :obj:`50`)
        protocol (Protocol): How networks are trained. (default: :obj:`QUICK`)
        network (callable, optional): Makes a network. (default: that of the task)
        seeds (int or sequence of int): The seeds, or how many of them. (default: :obj:`1`)

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is too small.
    """

    def __init__(
        self,
        test_set: Iterable[Data],
        every: int = 50,
        protocol: evaluation.Protocol = QUICK,
        network: Callable[..., nn.Module] | None = None,
        seeds: int | Sequence[int] = 1,
    ) -> None:
        check_dataset("test_set", test_set)
        check_protocol(protocol)
        check_maker("network", network)
        self.every, self.seeds = check_int("every", every), seed_list(seeds)
        self.protocol, self.network = protocol, network
        self._test_set = test_set
        self._bank: PointCloudBank | None = None

    def begin(self, loop: Distillation) -> PointCloudBank:
        """Reads the test set, at the first step of a run that a :class:`Tracker` tells of.

        Raises:
            TypeError, ValueError: If it cannot be read for the task, or has other classes.
        """
        if self._bank is None:
            try:
                self._bank = loop.task.read(self._test_set)
                loop.task.network_sizes(loop.bank, self._bank)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"'test_set' of Looks: {error}") from error
        return self._bank

    def __call__(self, loop: Distillation) -> dict[str, float]:
        """The figure, by what the task calls it."""
        result = evaluate(
            loop.dataset(),
            self.begin(loop),
            self.network,
            self.protocol,
            self.seeds,
            loop.device,
            progress=False,
            task=loop.task,
        )
        return {result.metric: result.mean}


class Clouds:
    """A cloud of every class as it is stored, by :obj:`clouds/` and the name of the class.

    Args:
        every (int): Steps between two times. (default: :obj:`50`)
        make (callable, optional): Makes of the points, an array :obj:`[N, 3]`, what the tracker
            takes for a cloud, such as :obj:`wandb.Object3D`. (default: the array)
        number (int): Which cloud of a class, its last one where it has fewer; after the anchors of
            the first group come its morphs. (default: :obj:`0`)

    Raises:
        TypeError, ValueError: If a number is none or too small, or :obj:`make` not callable.
    """

    def __init__(
        self, every: int = 50, make: Callable[[Any], Any] | None = None, number: int = 0
    ) -> None:
        check_callable("make", make)
        self.every, self.make = check_int("every", every), make
        self.number = check_int("number", number, minimum=0)

    def __call__(self, loop: Distillation) -> dict[str, Any]:
        """The clouds by name."""
        names = loop.bank.class_names
        stored = loop.stored()
        with torch.no_grad():
            each = stored.unfold().detach()  # It may be the very parameter, which needs a gradient.
        counts = [n * stored.clouds_per_group for n in stored.counts]
        clouds = [some[min(self.number, len(some) - 1)].numpy() for some in each.split(counts)]
        make = self.make or (lambda points: points)
        return {f"clouds/{name}": make(points) for name, points in zip(names, clouds, strict=True)}


class TensorBoardLogger(Tracker):
    """The same for TensorBoard: numbers as scalars, clouds as meshes that can be turned.

    .. code-block:: python

        with TensorBoardLogger("runs/first", Clouds(50), Looks(held, 100)) as board:
            distill(dataset, callback=board)

    Args:
        folder (str or path): Where its files go; one folder is one line of its pictures.
        *more (Told): What else is told.
        every (int): Steps between two losses that are told. (default: :obj:`1`)

    Raises:
        ImportError: If tensorboard is not installed: the extra :obj:`track`.
        TypeError, ValueError: As :class:`Tracker`, or if nothing can be written to the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], *more: Told, every: int = 1) -> None:
        super().__init__(self.write, *more, every=every)
        folder = check_folder("folder", folder)
        self.check_installed()
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def _open(self, step: int) -> SummaryWriter:
        """What writes the files; it is made at the first step that is told.

        Of an earlier process that wrote to the folder and was stopped, the steps from there on,
        which are made again, are left out of the pictures.
        """
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer

    @staticmethod
    def check_installed() -> None:
        """Raises an :class:`ImportError` unless tensorboard is installed."""
        if find_spec("tensorboard") is None:
            raise ImportError(
                "TensorBoardLogger needs tensorboard: pip install tensorboard, or the extra "
                "'track' of this package"
            )

    def write(self, told: Mapping[str, Any], step: int) -> None:
        """Writes numbers of any library as scalars, and arrays :obj:`[N, 3]` as meshes."""
        writer = self._open(step)
        for name, value in told.items():
            if np.ndim(value) == 0:
                writer.add_scalar(name, float(value), step)
            else:
                points = torch.as_tensor(value)[None]
                writer.add_mesh(name, points, colors=_heights(points), global_step=step)

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _heights(points: Tensor) -> Tensor:
    """Colours :obj:`[B, N, 3]` in 0..255, brighter for what is higher."""
    z = points[..., 2:]
    share = (z - z.amin()) / (z.amax() - z.amin()).clamp_min(1e-12)
    low, high = points.new_tensor([40.0, 60.0, 130.0]), points.new_tensor([250.0, 220.0, 60.0])
    return (low + share * (high - low)).round().int()
