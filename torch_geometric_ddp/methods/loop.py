"""The distillation loop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torch_geometric_ddp._checks import check_callable, check_int, check_json, shown
from torch_geometric_ddp._files import check_place
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp._seeding import seed_of, seeded
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import clouds_of_classes
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.methods.checkpoint import read_checkpoint, write_checkpoint
from torch_geometric_ddp.methods.interrupting import pass_on, stops_noted
from torch_geometric_ddp.methods.losses import Losses
from torch_geometric_ddp.methods.memory_plan import MemoryPlan
from torch_geometric_ddp.methods.networks import NetworkSource, check_network
from torch_geometric_ddp.methods.optimizers import (
    SGD,
    MakeOptimizer,
    averaged,
    optimizer_of,
    set_rates,
)
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.methods.retrying import LastGood, retries_of
from torch_geometric_ddp.methods.sharing import (
    check_chunk,
    check_counts,
    check_rows,
    share_rows,
    shares_of,
)
from torch_geometric_ddp.methods.streaming import rows_of, streamed
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import Parameterization
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["Distillation"]

# Steps between two times that points are put in the order of a file: a correspondence of 40 anchors
# of 252 points takes about a tenth of their step, and the points move little in so many.
_REORDER_EVERY = 10
# How far, in shares of the largest coordinate, the rounding of half precision may move a point.
_APART = 0.01


class Distillation:
    r"""The loop that fits a parameterization to a real set, and the owner of all its state.

    Every step draws real clouds of every class and a randomly initialised network, whose
    parameters are frozen (:class:`~torch_geometric_ddp.methods.networks.NetworkSource`), unfolds
    the parameterization, and takes a step of the optimiser on the sum of the class losses of the
    matching (DDP, ICLR 2026, and its published code).

    In an initialised process group of :obj:`torch.distributed` every process makes the same object
    and calls the same methods. Each computes some of the classes, from the same draws and
    networks, and has those of the others as of the last :meth:`share`.

    Args:
        bank (PointCloudBank): The real clouds. If they lie elsewhere than the parameterization,
            those of a step are brought to it.
        parameterization (Parameterization): What is optimised.
        matching (Matching): The loss.
        network (callable, optional): Makes a :class:`~torch_geometric_ddp.nn.Backbone` from the
            number of classes, or from those of parts and categories. (default: that of the task)
        batch_size (int): Real clouds per class and step. (default: :obj:`8`)
        optimizer (callable): Makes any :class:`torch.optim.Optimizer` whose step needs no closure,
            and which takes dense parameters of any shape, from groups of these with their learning
            rates. (default: :obj:`SGD`, with a momentum of 0.5 as in the published code)
        generator (torch.Generator, optional): The source of all randomness, on the CPU.
            (default: one seeded with 0)
        outer_loops (int): Updates of the synthetic set with every network, which one step counts
            together (DC, ICLR 2021, algorithm 1). (default: :obj:`1`)
        inner_epochs (int): Epochs of training on the synthetic set that the network receives
            between two updates. (default: :obj:`1`)
        classes_per_chunk (int, optional): How many classes are computed at a time; fewer need
            less memory and give the same gradient up to rounding. (default: as many as 4 GiB
            hold)
        task (Task or str): What the networks learn. (default: :obj:`"classification"`)
        networks (NetworkSource, optional): Where the network of a step comes from, with the same
            :obj:`generator`. (default: a fresh one in every step)
        schedule (callable, optional): The factor of all learning rates in a step, from the number
            of steps before it. (default: one)
        budget (StorageBudget, optional): What may be stored. (default: a real cloud for every group
            of the parameterization)
        device (torch.device, optional): Where to compute; the parameterization is brought there.
            (default: where it is)
        started_from (dict, optional): What tells its start from others, as JSON. Checkpoints and
            sets tell it, too. (default: nothing)

    Raises:
        TypeError: If :obj:`batch_size`, :obj:`outer_loops`, :obj:`inner_epochs` or
            :obj:`classes_per_chunk` is no integer, or :obj:`optimizer` not callable.
        ValueError: If one of these numbers is below one, :obj:`task` is no known name, a class of
            :obj:`bank` has no clouds, :obj:`parameterization` has another number of classes, it
            labels points otherwise than the real set, or a file of it would not give it back; or if
            there are several ranks, and the
            classes cannot be shared by so many, depend on each other or differ between them; or if
            :obj:`outer_loops` is above one and the networks of :obj:`networks` are shared.
    """

    def __init__(
        self,
        bank: PointCloudBank,
        parameterization: Parameterization,
        matching: Matching,
        network: Callable[..., Backbone] | None = None,
        batch_size: int = 8,
        optimizer: MakeOptimizer = SGD,
        generator: torch.Generator | None = None,
        outer_loops: int = 1,
        inner_epochs: int = 1,
        classes_per_chunk: int | None = None,
        task: Task | str = "classification",
        networks: NetworkSource | None = None,
        schedule: Callable[[int], float] | None = None,
        budget: StorageBudget | None = None,
        device: torch.device | None = None,
        started_from: Mapping[str, Any] | None = None,
    ) -> None:
        self.task = find_task(task)
        bank.unscaled().check_every_class()
        if parameterization.num_classes != bank.num_classes:
            raise ValueError(
                f"'parameterization' is for {parameterization.num_classes} classes, the real set "
                f"has {bank.num_classes}"
            )
        self.bank, self.parameterization, self.matching = bank, parameterization, matching
        #: What may be stored.
        self.budget = bank.budget(parameterization.ppc) if budget is None else budget
        self.batch_size = check_int("batch_size", batch_size)
        self.generator = generator or torch.Generator().manual_seed(0)
        self.outer_loops = check_int("outer_loops", outer_loops)
        self.inner_epochs = check_int("inner_epochs", inner_epochs)
        classes_per_chunk = check_chunk(classes_per_chunk, matching)
        self.ranks = Ranks.here()
        self.shares = shares_of(self.ranks, matching, bank.num_classes, classes_per_chunk)
        check_rows(self.ranks, parameterization)
        whole = None if matching.per_class else bank.num_classes
        if len({*parameterization.counts}) > 1:
            check_counts(matching, "parameterization")
        self.memory = MemoryPlan(
            whole if classes_per_chunk is None else classes_per_chunk, matching.unequal
        )
        make = self.task.network if network is None else network
        self.networks = networks or NetworkSource(make, bank, self.batch_size, self.generator)
        if self.outer_loops > 1 and not self.networks.trains:
            raise ValueError(
                f"'outer_loops' must be 1 with {type(self.networks).__name__}, whose networks are "
                f"shared and not trained any more, got {self.outer_loops}"
            )
        self.schedule = schedule
        with torch.no_grad():
            self._num_points: int = parameterization(slice(0, 1)).num_points
        self.task.check(bank, parameterization.labels, self._num_points)
        check_json("parameterization", parameterization.config())
        _check_read_again(parameterization)
        parameterization.to(device)
        self.optimizer = optimizer_of(optimizer, parameterization.parameter_groups())
        #: Where everything is computed.
        self.device = self.networks.device = next(parameterization.parameters()).device
        # Described before the first step, as what an object holds may change while it is used.
        self._settings = matching.config()
        self._made_by = {
            "matching": describe(type(matching)),
            "network": describe(make),
            "optimizer": describe(optimizer),
            **self.networks.config(),
            **({} if schedule is None else {"schedule": describe(schedule)}),
            **(started_from or {}),
        }
        if type(self.networks) is not NetworkSource:
            self._made_by["networks"] = describe(type(self.networks))
        check_network(make, bank)
        check_json("matching", self._settings)
        #: What the matching compares of the real clouds, computed once, a row for each of them.
        self.views: dict[str, Tensor] = {}
        self._is_prepared = False
        self._place: Tensor | None = None
        self._made: PointCloudBank | None = None
        self._losses = Losses(self.ranks, self.shares)
        if not self.ranks.alone:
            self.ranks.check_same("what is distilled", self.config())

    @property
    def losses(self) -> list[float]:
        """The losses of all steps, but of the last few where nobody has looked at them yet."""
        return [*self._losses.values]

    @losses.setter
    def losses(self, values: list[float]) -> None:
        values = [*values]  # Which may be those that are cut.
        self._losses.cut(0)
        self._losses.values[:] = values

    @property
    def num_steps(self) -> int:
        """The number of steps taken so far."""
        return len(self._losses)

    @property
    def num_retries(self) -> int:
        """How many times the learning rates were halved, as a loss or parameter was not finite."""
        return retries_of(self.optimizer)

    def prepare(self, progress: bool = False) -> None:
        """Computes :attr:`views` and lets the networks prepare; the first step does it otherwise.

        What is there already is not made again.
        """
        if self._is_prepared:  # Which may be nothing.
            return
        bank, own = self.bank, self.shares[self.ranks.rank]
        if not self.ranks.alone:
            bank, self._place = bank.cached(clouds_of_classes, own.start, own.stop)
        progress = progress and self.ranks.first
        self.views = self.matching.prepare(bank, self._num_points, progress)
        _check_views(self.views, len(bank), self.matching)
        self.networks.prepare()
        self._is_prepared = True

    def step(self) -> float:
        """Takes one step and returns the loss, the sum over all classes.

        Raises:
            FloatingPointError: If the loss is not finite; the parameters are as before its update.
        """
        self._step(read=True)
        return self._losses.values[-1]

    def _step(self, read: bool) -> None:
        self.prepare()
        own = self.shares[self.ranks.rank]
        if self.num_steps % _REORDER_EVERY == 0:
            self.parameterization.reorder(self.optimizer, own)
        set_rates(self.optimizer, self.num_steps, self.schedule)
        # A network may draw before the features: dropout, or a random first point. Not a seed of
        # the evaluation, whose networks those of an own source would then be.
        seed = seed_of("step", self.generator.initial_seed(), self.num_steps)
        with seeded(seed, self.device):
            network = self.networks.fresh()
            self._update(network, read)
            for _ in range(1, self.outer_loops):
                self.share()
                self.networks.train(network, self._synthetic(), self.inner_epochs)
                self._losses.forget()
                self._update(network, read)

    def _update(self, network: Backbone, read: bool) -> None:
        index = self.bank.draw(self.batch_size, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        own = self.shares[self.ranks.rank]
        chunks = self.memory.chunks(
            network, self.parameterization, self.views, self.batch_size, own
        )
        try:
            losses = self._backward(network, index, chunks)
        except FloatingPointError:
            if self.ranks.alone:
                raise
            # The others learn of it where they read the losses, so that all go back together.
            losses = torch.full((own.stop - own.start,), torch.nan, device=self.device)
        self._losses.add(losses)
        if read:
            self._losses.read()
        self.optimizer.step()

    def _backward(self, network: Backbone, index: Tensor, chunks: Sequence[slice]) -> Tensor:
        """The losses of the classes of this rank, whose gradients are added to the parameters."""
        known, losses = self.networks.known(network), []
        parts = [self._placed(index[classes]) for classes in chunks]
        clouds = streamed(self.views, parts, self.device, self._is_streamed)
        for classes, real in zip(chunks, clouds, strict=True):
            real |= {key: value[classes] for key, value in known.items()}
            loss = self.matching(network, real, self.parameterization(classes))
            self._check_loss(loss, classes)
            loss.sum().backward()
            losses.append(loss.detach())
        return torch.cat(losses)

    def _check_loss(self, loss: object, classes: slice) -> None:
        """Raises unless a matching gave a number for each of some classes."""
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        if shape != [classes.stop - classes.start]:
            raise ValueError(
                f"'matching' must give a loss for each class, of shape "
                f"{[classes.stop - classes.start]}, got {shape} of {type(self.matching).__name__}"
            )
        if isinstance(loss, Tensor) and not loss.requires_grad:
            raise ValueError(
                "'matching' must give a loss that depends on the synthetic clouds, that of "
                f"{type(self.matching).__name__} has no gradient"
            )

    def share(self) -> None:
        """Gives every rank the parameters of all classes, and what the optimiser keeps of them.

        All ranks call it together; :meth:`run` does it with every checkpoint and at its end.

        Raises:
            ConnectionError: If another rank has stopped.
            ValueError: If the optimiser keeps what does not belong to one class.
        """
        share_rows(self.ranks, self.shares, self.parameterization, self.optimizer)

    def stored(self) -> Parameterization:
        """What a file of the set would give if the run ended now, on the CPU.

        It is rounded as it is stored, and the mean of the steps where the optimiser keeps one
        (:class:`~torch_geometric_ddp.methods.AveragedSGD`). All ranks call it together, and each
        has the whole.
        """
        return self.dataset().parameterization

    def dataset(self, provenance: Mapping[str, Any] | None = None) -> SyntheticPointCloudDataset:
        """The set that would be the result if the run ended now, as :meth:`stored`.

        Args:
            provenance (dict, optional): How it was made, as JSON. (default: nothing)
        """
        self.share()
        with averaged(self.optimizer):
            return SyntheticPointCloudDataset(
                self.parameterization, class_names=self.bank.class_names, provenance=provenance
            )

    def _check_finite(self) -> None:
        """Raises if the last update ruined a parameter, which the loss of the next step tells."""
        parameters = self.parameterization.named_parameters()
        wrong = [name for name, p in parameters if not bool(torch.isfinite(p).all())]
        if wrong:
            raise FloatingPointError(
                f"step {self.num_steps} made the parameters {wrong} NaN or infinite: lower the "
                "learning rates"
            )

    def _synthetic(self) -> PointCloudBank:
        """The synthetic clouds as they are; their sizes and labels are looked at once."""
        with torch.no_grad():
            batch = self.parameterization()
            if self._made is None:
                self._made = self.task.bank_of(batch, self.bank)
            return self._made.moved(batch.pos)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """The views of the real clouds :obj:`index [...]`, each :obj:`[..., *]`.

        With several ranks they are of this rank's classes.
        """
        return rows_of(self.views, self._placed(index), self.device)

    def _placed(self, index: Tensor) -> Tensor:
        """Where the real clouds :obj:`index [...]` lie in the views."""
        return index if self._place is None else self._place[index]

    @property
    def _is_streamed(self) -> bool:
        """Whether views lie elsewhere than where they are compared, or in a file."""
        return self.device != self.bank.device or self.bank.kept_in is not None

    def run(
        self,
        steps: int,
        progress: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 50,
        callback: Callable[[Distillation], None] | None = None,
        retries: int = 0,
    ) -> None:
        """Goes on until :obj:`steps` steps have been taken altogether.

        Args:
            steps (int): The number of steps, those taken before included.
            progress (bool): Whether to show a progress bar with the loss. (default: :obj:`True`)
            checkpoint (str or path, optional): Where to write the state now and then, and at the
                end.
            checkpoint_every (int): Steps between two checkpoints. (default: :obj:`50`)
            callback (callable, optional): Called with this object after every step.
            retries (int): How many times altogether the run goes back to its last good state, of
                those :obj:`checkpoint_every` steps apart, and goes on with half the learning rates
                where a loss or a parameter is not finite. (default: :obj:`0`)

        With a checkpoint, Ctrl-C and SIGTERM wait for the end of a step and are obeyed when the
        state is written; a second one is obeyed at once.

        Raises:
            TypeError: If :obj:`steps`, :obj:`checkpoint_every` or :obj:`retries` is no integer, or
                :obj:`callback` not callable.
            ValueError: If :obj:`steps` is below the number that were taken before,
                :obj:`checkpoint_every` below one, :obj:`retries` negative, or :obj:`checkpoint`
                cannot be written.
            FloatingPointError: If a loss or, in the end, a parameter is not finite and no retry is
                left; it is never written.
            ConnectionError: If another rank has stopped.
        """
        steps = check_int("steps", steps, minimum=0)
        checkpoint_every = check_int("checkpoint_every", checkpoint_every)
        check_callable("callback", callback)
        retries = check_int("retries", retries, minimum=0)
        if checkpoint is not None:
            check_place("checkpoint", checkpoint)
        if steps < self.num_steps:
            raise ValueError(
                f"'steps' must be at least the {self.num_steps} that were taken before, got {steps}"
            )
        progress = progress and self.ranks.first
        if self.num_steps < steps:
            self.prepare(progress)
        bar = tqdm(
            total=steps, initial=self.num_steps, desc="Distill", unit="step", disable=not progress
        )
        state = self.parameterization, self.optimizer, self.generator, self._losses
        good = LastGood(retries, *state)
        with bar, stops_noted(checkpoint is not None) as stops:
            while self.num_steps < steps:
                after = self.num_steps + 1
                due = after == steps or after % checkpoint_every == 0
                read = due or self._losses.is_looked_at(callback is not None)
                try:
                    if read:
                        self.step()
                    else:
                        self._step(read=False)
                    if due and checkpoint is not None:
                        self.save_checkpoint(checkpoint)
                    elif due:
                        self.share()
                        self._check_finite()
                except FloatingPointError as error:
                    self._say(bar, good.go_back(error))
                    bar.n = self.num_steps
                    continue
                if due:
                    good.keep()
                if read:
                    bar.set_postfix(loss=f"{self._losses.values[-1] / self.bank.num_classes:.4f}")
                bar.update()
                if callback is not None:
                    callback(self)
                stop = stops[0] if stops else 0
                if not self.ranks.alone:  # All stop after the same step.
                    stop = self.ranks.largest(stop) if read else 0
                if checkpoint is not None and stop:
                    self.save_checkpoint(checkpoint)
                    place = f"the state after step {self.num_steps} of {steps} is in '{checkpoint}'"
                    self._say(bar, f"Stopped: {place}. Start it again to go on.")
                    stops.clear()
                    pass_on(stop)

    def _say(self, bar: tqdm[Any], text: str) -> None:
        if self.ranks.first:
            bar.write(text, file=sys.stderr)

    def config(self) -> dict[str, Any]:
        """What a run must share with a checkpoint to go on from it, as JSON."""
        groups, chunk = self.optimizer.param_groups, self.memory.classes_per_chunk
        own = {
            **self._made_by,
            "parameterization": self.parameterization.describe(),
            "batch_size": self.batch_size,
            "seed": self.generator.initial_seed(),
            "learning_rates": [describe(g.get("initial_lr", g["lr"])) for g in groups],
            "outer_loops": self.outer_loops,
            "inner_epochs": self.inner_epochs,
            "num_real_clouds": len(self.bank),
            "real_sha256": self.bank.sha256(),
            **({"classes_per_chunk": chunk} if chunk and self.matching.per_class else {}),
        }
        # A matching may call a setting of its own like one of the loop.
        settings = {f"matching.{k}" if k in own else k: v for k, v in self._settings.items()}
        # As a file gives it back, in which a tuple is a list.
        found: dict[str, Any] = json.loads(json.dumps({**settings, **own}))
        return found

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes all state of the loop: parameters, optimiser, generator and losses.

        All ranks call it together, and the first one writes.

        Raises:
            FloatingPointError: If a parameter is not finite; the file is then as before.
        """
        self._losses.read()
        self.share()
        self._check_finite()
        state = self.parameterization, self.optimizer, self.generator
        if self.ranks.first:
            write_checkpoint(path, self.config(), *state, self.losses)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Goes back to a checkpoint; on a CPU what follows is bit for bit what would have followed.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged or of a run with other settings or other data.
        """
        state = self.parameterization, self.optimizer, self.generator
        self.losses = read_checkpoint(path, self.config(), *state)


def _check_views(views: object, num: int, matching: Matching) -> None:
    """Raises unless a matching prepared tensors with a row for every real cloud."""
    whose = f"'prepare' of {type(matching).__name__}"
    if not isinstance(views, Mapping):
        raise TypeError(f"{whose} must give tensors by name, got {shown(views)}")
    for name, view in views.items():
        if not isinstance(view, Tensor):
            raise TypeError(f"{whose} must give tensors by name, got {shown(view)} as '{name}'")
        if view.dim() < 1 or len(view) != num:
            raise ValueError(
                f"{whose} must give a row for each of {num} clouds, got {list(view.shape)} as "
                f"'{name}'"
            )


def _check_read_again(parameterization: Parameterization) -> None:
    """Tries what the end of a run needs: that a file gives a parameterization back."""
    first, what = parameterization.groups_of(slice(0, 1)), parameterization.describe()
    num_groups = first.stop - first.start
    wanted = [num_groups * parameterization.clouds_per_group, parameterization.num_points, 3]
    with torch.no_grad():
        made = parameterization.unfold(first).detach()
        expected = list(made.shape)
        if expected != wanted:
            raise ValueError(
                f"'clouds' of {type(parameterization).__name__} must give clouds_per_group="
                f"{parameterization.clouds_per_group} clouds of {parameterization.num_points} "
                f"points for each of {num_groups} groups, {wanted}, got {expected}"
            )
        try:
            again = parameterization.stored().unfold(first).detach()
            found = list(again.shape)
        except Exception as error:  # What its constructor does is anyone's guess.
            raise ValueError(
                f"'parameterization' must be given back by its file, which {what} is not: {error}"
            ) from error
    if found != expected:
        raise ValueError(
            f"'parameterization' must be given back by its file, which {what} is not: its first "
            f"class has clouds of shape {expected}, and read again of shape {found}"
        )
    # What is rounded on the way, or comes back in another order, is not seen before the loop.
    if parameterization.sees_stored and parameterization.keeps_order:
        apart = float((again.to(made) - made).abs().amax())
        if apart > _APART * float(made.abs().amax()):
            raise ValueError(
                f"'parameterization' must be given back by its file, which {what} is not: the "
                f"clouds of its first class are up to {apart:.3g} away when they are read again; "
                "does 'sizes' name all that its constructor takes?"
            )
