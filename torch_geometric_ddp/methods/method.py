"""Methods: a parameterization, a matching and a start with a name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import (
    check_callable,
    check_dataset,
    check_device,
    check_flag,
    check_int,
    check_maker,
    check_ppc,
    check_seed,
    check_text,
    shown,
)
from torch_geometric_ddp._files import check_folder, check_place
from torch_geometric_ddp._gradients import with_gradients
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp._seeding import seed_of, seeded
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.methods.loop import Distillation
from torch_geometric_ddp.methods.networks import NetworkSource, check_matched, check_network
from torch_geometric_ddp.methods.optimizers import SGD, MakeOptimizer, check_optimizer
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.methods.sharing import check_chunk, check_counts, shares_of
from torch_geometric_ddp.methods.starts import Start, real_clouds
from torch_geometric_ddp.methods.storing import Storing, told_storing
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import Parameterization
from torch_geometric_ddp.quotas import Quotas, check_quotas, told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["Method"]


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
        optimizer (callable): Makes the optimiser from groups of parameters with their learning
            rates, see :class:`Distillation`. (default: SGD with a momentum of 0.5)
        loops (callable): The updates with every network and the epochs of its training between
            them, from the PPC of the budget. (default: always one, so that no network is
            trained)
        networks (callable): Makes the :class:`NetworkSource` of a run. (default: fresh networks)
        choose (callable, optional): Makes the start of a run from its networks, in the place of
            :obj:`start`. (default: none)
        schedule (callable, optional): The factor of the learning rates from the steps taken and
            :obj:`steps`, those of the whole run. (default: always one)
        sees_stored (bool): Whether optimisation sees what is stored. Otherwise a codec rounds what
            was optimised without it (post-training quantisation). (default: :obj:`True`)
        within (callable, optional): Gives the method that runs in the place of this one within a
            :class:`~torch_geometric_ddp.budget.StorageBudget`. (default: this one, within any)

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If :obj:`steps` is negative or :obj:`batch_size` below one.
    """

    name: str
    storing: Storing
    matching: Callable[[], Matching]
    steps: int
    start: Start = real_clouds
    batch_size: int = 8
    optimizer: MakeOptimizer = SGD
    loops: Callable[[float], tuple[int, int]] = lambda ppc: (1, 1)
    networks: Callable[..., Any] = NetworkSource
    choose: Callable[[Any], Start] | None = None
    schedule: Callable[..., float] | None = None
    sees_stored: bool = True
    within: Callable[[StorageBudget], Method] | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name)
        # As Python has them, for JSON.
        for name, least in (("steps", 0), ("batch_size", 1)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=least))
        for name in ("storing", "matching", "start", "loops", "networks"):
            check_callable(name, getattr(self, name), optional=False)
        check_optimizer(self.optimizer)
        if isinstance(self.matching, Matching):
            got = type(self.matching).__name__
            raise TypeError(f"'matching' must make a Matching, such as SADM, got one, a {got}")
        check_callable("choose", self.choose)
        check_callable("schedule", self.schedule)
        check_callable("within", self.within)
        check_flag("sees_stored", self.sees_stored)

    @property
    def streams(self) -> bool:
        """Whether real clouds may lie elsewhere than its networks, as far as that is seen here."""
        return getattr(self._source, "streams", True)

    @property
    def revision(self) -> int:
        """That of its networks (:attr:`NetworkSource.revision`), as far as that is seen here."""
        return getattr(self._source, "revision", 1)

    @property
    def _source(self) -> Callable[..., Any]:
        return self.networks.func if isinstance(self.networks, partial) else self.networks

    def _start(self) -> dict[str, Any]:
        """What tells where its runs start, as JSON, only where that is not the usual."""
        told: dict[str, Any] = {}
        if self.choose is not None:
            told["choose"] = describe(self.choose)
        elif self.start is not real_clouds:
            told["start"] = describe(self.start)
        return told | told_storing(self.storing)

    def begin(
        self,
        bank: PointCloudBank,
        ppc: float = 1,
        seed: int = 0,
        network: Callable[..., Backbone] | None = None,
        task: Task | str = "classification",
        *,
        classes_per_chunk: int | None = None,
        steps: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: torch.device | str | None = None,
        progress: bool = True,
        quotas: Quotas = "uniform",
        chooses: bool = True,
    ) -> Distillation:
        """The loop before its first step, within the storage of :obj:`ppc` clouds per class.

        Args:
            bank (PointCloudBank): The real clouds, as they shall be matched.
            ppc (float): The storage, in full-resolution clouds per class. (default: :obj:`1`)
            seed (int): Makes the run repeatable. (default: :obj:`0`)
            network (callable, optional): Makes a backbone. (default: that of the task)
            task (Task or str): What networks learn. (default: :obj:`"classification"`)
            classes_per_chunk (int, optional): How many classes are computed at a time. (default:
                as many as 4 GiB hold)
            steps (int, optional): The steps of the whole run, for a schedule. (default: as
                published)
            checkpoint (str or path, optional): A file for the state of the run. If it exists, the
                loop is where that run stopped, and no start is chosen; a start that is chosen is
                written to it.
            device (torch.device, optional): Where to compute, if that is elsewhere than where the
                clouds lie and stay; those of a step are brought there. (default: where they lie)
            progress (bool): Whether a start that takes long shows bars. (default: :obj:`True`)
            quotas (str or sequence of float): How the storage is divided among the classes, see
                :func:`~torch_geometric_ddp.distill`. (default: :obj:`"uniform"`)
            chooses (bool): Whether a start is chosen where the method does so. Without, the loop
                has the plain start, which says in seconds whether a run can begin.
                (default: :obj:`True`)

        Raises:
            TypeError: If :obj:`ppc` is no number, :obj:`seed` or :obj:`classes_per_chunk` no
                integer, :obj:`quotas` neither a name nor numbers, :obj:`matching` makes no
                :class:`~torch_geometric_ddp.matching.Matching`, or :obj:`within` gives no method
                or this one.
            ValueError: If one of them is too small, :obj:`task` is no known name, a class of
                :obj:`bank` has no clouds, its clouds have different sizes or are not labelled as
                the task needs them, the budget exceeds them all, or what would be stored exceeds
                the budget; or if :obj:`checkpoint` is damaged or of another run, or :obj:`device`
                is not that of the clouds and the networks need all of them there; or if
                :obj:`quotas` are no known name and not a number above 0 for every class, or this
                method has nothing to divide so.
        """
        task, seed = find_task(task), check_seed("seed", seed)
        bank.check_every_class()
        budget = bank.check_budget(bank.budget(ppc, quotas))
        if self.within is not None:
            fitted = self.within(budget)
            if not isinstance(fitted, Method) or fitted == self:
                what = "itself" if fitted == self else shown(fitted)
                raise TypeError(f"'within' must give another Method for a budget, got {what}")
            return fitted.begin(
                bank,
                ppc,
                seed,
                network,
                task,
                classes_per_chunk=classes_per_chunk,
                steps=steps,
                checkpoint=checkpoint,
                device=device,
                progress=progress,
                quotas=quotas,
                chooses=chooses,
            )
        generator = torch.Generator().manual_seed(seed)
        make = task.network if network is None else network
        check_network(make, bank)
        # Layers of random weights, say, are those of the seed.
        with seeded(seed_of("matching", seed), bank.device):
            matching = self.matching()
        check_matched(matching, make, bank)
        classes_per_chunk = check_chunk(classes_per_chunk, matching)
        if budget.weights is not None:
            check_counts(matching, "quotas")
        ranks = Ranks.here()
        shares_of(ranks, matching, bank.num_classes, classes_per_chunk)  # Raises before long work.
        networks = self.networks(make, bank, self.batch_size, generator)
        networks.progress = progress
        # With its number, which a name may lack.
        place = bank.device if device is None else torch.empty(0, device=device).device
        if place != bank.device and not networks.streams:
            raise self._no_stream()
        resumed = checkpoint is not None and Path(checkpoint).exists()
        ranks.check_same("whether the file 'checkpoint' is there", resumed)
        started_from = self._start()  # Before a start is used, which may change what it holds.
        outer, inner = self.loops(ppc)

        def loop_from(start: Start, generator: torch.Generator) -> Distillation:
            parameterization = self.storing(bank, budget, start, generator, task)
            if not isinstance(parameterization, Parameterization):
                raise TypeError(
                    f"'storing' must give a Parameterization, got {shown(parameterization)}"
                )
            parameterization.sees_stored = self.sees_stored
            parameterization.check_budget(budget)
            divided = budget.weights is not None
            if divided and parameterization.counts != budget.counts(parameterization.ppc):
                raise ValueError(
                    f"'quotas' must be 'uniform' for {self.name}, whose storing does not divide by "
                    f"them: it made {parameterization.describe()}"
                )
            return Distillation(
                bank,
                parameterization,
                matching,
                network,
                self.batch_size,
                self.optimizer,
                generator,
                outer_loops=outer,
                inner_epochs=inner,
                classes_per_chunk=classes_per_chunk,
                task=task,
                networks=networks,
                schedule=self._scheduled(self.steps if steps is None else steps),
                budget=budget,
                device=place,
                started_from=started_from,
            )

        choose = self.choose if chooses else None
        if choose is None or resumed:  # What a run starts from is in its checkpoint.
            loop = loop_from(self.start, generator)
        else:
            # Raises what cannot be used before networks are trained, which may take minutes.
            loop_from(self.start, torch.Generator().manual_seed(seed))
            loop = loop_from(choose(networks), generator)
        if checkpoint is not None and resumed:
            loop.load_checkpoint(checkpoint)
        elif checkpoint is not None and choose is not None:
            loop.save_checkpoint(checkpoint)  # What was chosen is not lost where a step fails.
        return loop

    def _no_stream(self) -> ValueError:
        return ValueError(
            f"'stream' must be False for {self.name}, whose networks are trained on all clouds"
        )

    def _scheduled(self, steps: int) -> Callable[[int], float] | None:
        return None if self.schedule is None else partial(self.schedule, steps=steps)

    @with_gradients
    def distill(
        self,
        dataset: Iterable[Data],
        ppc: float = 1,
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
        """Distils a data set by this method; see :func:`~torch_geometric_ddp.distill`.

        Args:
            dataset (Dataset): The real set.
            ppc (float): The storage, in full-resolution clouds per class. (default: :obj:`1`)
            steps (int, optional): Optimisation steps. (default: as published)
            network (callable, optional): Makes a backbone from the number of classes, or from the
                numbers of parts and categories. (default: :obj:`PointNet`, or
                :obj:`PointNetSegmentation`)
            task (Task or str): :obj:`"classification"`, or :obj:`"segmentation"` of clouds whose
                points are labelled with parts. (default: :obj:`"classification"`)
            normalize (bool): Whether the real clouds are centred and scaled to the unit ball.
                (default: :obj:`True`)
            seed (int): Makes the run repeatable. (default: :obj:`0`)
            device (torch.device, optional): Where to compute. (default: where the clouds lie)
            source (str, optional): What to call the real set. (default: its name or class)
            checkpoint (str or path, optional): A file for the state of the run. If it exists, the
                run goes on from there, with a :obj:`schedule` only to the same :obj:`steps`.
            classes_per_chunk (int, optional): How many classes are computed at a time. (default:
                as many as 4 GiB hold)
            progress (bool): Whether to say what is going to be done, and to show bars.
                (default: :obj:`True`)
            callback (callable, optional): Called with the loop after every step.
            retries (int): How many times a run that diverges goes back to its last good state.
                (default: :obj:`0`)
            stream (bool): Whether the real clouds stay where they lie. (default: :obj:`False`)
            cache (str or path, optional): A folder for what is computed of the real clouds.
            class_names (sequence of str, optional): The names of the classes, of a set that does
                not name them. (default: those of the data set, else the numbers)
            quotas (str or sequence of float): How the storage is divided among the classes.
                (default: :obj:`"uniform"`)

        Returns:
            The distilled set, on the CPU.

        Raises:
            TypeError, ValueError: As :func:`~torch_geometric_ddp.distill`.
            FloatingPointError: If a loss or a parameter is not finite.
        """
        steps = self.steps if steps is None else check_int("steps", steps, minimum=0)
        ppc = check_ppc(ppc)
        seed = check_seed("seed", seed)
        check_dataset("dataset", dataset)
        check_flag("normalize", normalize)
        check_flag("progress", progress)
        check_device("device", device)
        check_text("source", source, optional=True)
        check_maker("network", network)
        check_callable("callback", callback)
        retries = check_int("retries", retries, minimum=0)
        check_flag("stream", stream)
        check_quotas(quotas)
        if cache is not None:
            check_folder("cache", cache)
        if classes_per_chunk is not None:
            classes_per_chunk = check_int("classes_per_chunk", classes_per_chunk)
        task = find_task(task)
        if checkpoint is not None:
            check_place("checkpoint", checkpoint)
        elsewhere = device is not None and torch.device(device).type != "cpu"
        if stream and elsewhere and not self.streams:
            raise self._no_stream()  # Before the whole set is read.
        progress = progress and Ranks.here().first
        bank = task.read(
            dataset, None if stream else device, progress=progress, class_names=class_names
        )
        bank = bank.normalize() if normalize else bank.unscaled()
        if cache is not None:
            bank.keep_in(cache)
        loop = self.begin(
            bank,
            ppc,
            seed,
            network,
            task,
            classes_per_chunk=classes_per_chunk,
            steps=steps,
            checkpoint=checkpoint,
            device=device if stream else None,
            progress=progress,
            quotas=quotas,
        )
        if progress and loop.num_steps < steps:
            tqdm.write(self._plan(loop, steps), file=sys.stderr)
        loop.run(steps, progress, checkpoint, callback=callback, retries=retries)
        name = getattr(dataset, "name", None)
        source = source or (name if isinstance(name, str) and name else type(dataset).__name__)
        told = told_quotas(quotas)
        return self.finish(loop, source=source, normalize=normalize, **told)

    def _plan(self, loop: Distillation, steps: int) -> str:
        """What a run is going to do, in a line; its bar says how long that takes."""
        bank, stored, ppc = loop.bank, loop.parameterization, loop.budget.ppc
        taken = f", of which {loop.num_steps:,} are taken" if loop.num_steps else ""
        return (
            f"To do: {self.name} of {bank.num_classes} classes, from {len(bank):,} clouds to "
            f"{stored.num_clouds:,} in {stored.storage_bits():,} of {loop.budget.bits:,} bits "
            f"(PPC {ppc:g}); {steps:,} step{'s' * (steps > 1)}{taken}."
        )

    def finish(self, loop: Distillation, **provenance: Any) -> SyntheticPointCloudDataset:
        """The set that a loop has distilled so far, on the CPU, with how it was made.

        All ranks call it together, and each has the whole set.

        Raises:
            ValueError: If it exceeds the budget, or what would be stored is not finite.
        """
        parameterization, budget = loop.parameterization, loop.budget
        provenance = {
            **loop.config(),
            **parameterization.config(),
            "method": self.name,
            "task": loop.task.name,
            "num_points": budget.num_points,
            "ppc": budget.ppc,
            "budget_bits": budget.bits,
            "steps": loop.num_steps,
            **({"retries": loop.num_retries} if loop.num_retries else {}),
            **({} if loop.ranks.alone else {"ranks": loop.ranks.size}),
            **provenance,
            "versions": versions(),
        }
        # What is evaluated is what is stored, and the loop may go on with its own.
        synthetic = loop.dataset(provenance)
        synthetic.provenance["bits"] = synthetic.parameterization.check_budget(budget)
        return synthetic
