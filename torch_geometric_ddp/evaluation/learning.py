"""The training and the test of one network a seed: one by one, side by side, or together."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing
from torch import nn
from tqdm import tqdm

from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp._worker import WHY_DIED, begin_worker
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import in_order_for
from torch_geometric_ddp.evaluation.protocol import Protocol
from torch_geometric_ddp.evaluation.together import check_together, fit_together
from torch_geometric_ddp.evaluation.training import Trainer, fit, which_seed
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.tasks import Scores, Task

__all__ = ["Learning", "learned"]

# Seconds between two looks at what processes have done.
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Learning:
    """What every seed trains and tests alike.

    Args:
        task (Task): What is learned.
        make (callable): Makes a network.
        sizes (tuple of int): What it is made from.
        train (PointCloudBank): The training clouds as they are taken.
        test (PointCloudBank): The test clouds.
        protocol (Protocol): How it is trained.
        trainer (callable): Trains it in place.
    """

    task: Task
    make: Callable[..., nn.Module]
    sizes: tuple[int, ...]
    train: PointCloudBank
    test: PointCloudBank
    protocol: Protocol
    trainer: Trainer

    def learn(self, seed: int, bar: tqdm[Any]) -> Scores:
        """Trains and tests the network of a seed.

        Raises:
            FloatingPointError: If it diverges.
        """
        with seeded(seed, self.train.device):
            model = _made(self.make, self.sizes).to(self.train.pos)
            self._look_at_logits(model)
            with which_seed(seed):
                self.trainer(model, self._train_of(model), self.protocol, seed, bar)
                return self._score(model)

    def learn_together(self, seeds: Sequence[int], bar: tqdm[Any]) -> list[Scores]:
        """Trains the networks of several seeds in the operations of one, and tests each.

        Raises:
            FloatingPointError: If one diverges.
            TypeError: If the network has an operation that cannot be taken for several.
        """
        models, scores = [], []
        for seed in seeds:
            with seeded(seed, self.train.device):
                models.append(_made(self.make, self.sizes).to(self.train.pos))
        self._look_at_logits(models[0])
        fit_together(models, self.train, self.protocol, seeds, bar)
        for seed, model in zip(seeds, models, strict=True):
            with seeded(seed, self.train.device), which_seed(seed):
                scores.append(self._score(model))
        return scores

    @property
    def _fits(self) -> bool:
        """Whether networks are trained by :func:`fit`, or by what only wraps it."""
        return inspect.unwrap(self.trainer) is fit

    def _look_at_logits(self, model: nn.Module) -> None:
        """Lets the first step refuse what could not be scored after the last one."""
        if not self._fits:  # Another one may train with what is no logits.
            return

        def look(model: nn.Module, batch: Any, logits: Any) -> None:
            handle.remove()
            self.task.check_logits(logits, self.sizes)

        handle = model.register_forward_hook(look)

    def _score(self, model: nn.Module) -> Scores:
        model.eval()
        with torch.no_grad():
            return self.task.score(model, self.train, _ordered(self.test, model))

    def _train_of(self, model: nn.Module) -> PointCloudBank:
        """The training clouds in the order of a network, where nothing moves their points."""
        moved = self.protocol.augment is not None or not self._fits
        return self.train if moved else _ordered(self.train, model)


def _ordered(bank: PointCloudBank, model: nn.Module) -> PointCloudBank:
    """Clouds in the order in which a network takes its centres, found once for all seeds.

    Points with labels stay where they are.
    """
    num = model.num_ordered if isinstance(model, Backbone) else None
    return bank if num is None or bank.has_parts else bank.cached(in_order_for, num)


def learned(
    learning: Learning, seeds: Sequence[int], bar: tqdm[Any], workers: int = 1, together: int = 1
) -> Iterator[Scores]:
    """The scores of every seed, in order.

    Args:
        learning (Learning): What they share.
        seeds (sequence of int): The seeds.
        bar (tqdm): Counts epochs.
        workers (int): How many processes of one thread each train them side by side; they share
            the memory of the clouds. (default: :obj:`1`, this one with all of its threads)
        together (int): How many are trained in the operations of one, by :func:`fit` and in this
            process. (default: :obj:`1`)

    Raises:
        ChildProcessError: If a process dies.
        FloatingPointError: If a network diverges; other processes end the seed that they train.
        TypeError: If the network has an operation that cannot be taken for several.
        ValueError: If the network, the trainer or the protocol cannot be sent to a process,
            networks cannot be trained together, or the logits do not fit the task.
    """
    if together > 1:
        return _in_groups(learning, seeds, bar, together)
    if workers == 1:
        return (learning.learn(seed, bar) for seed in seeds)
    return iter(_side_by_side(learning, seeds, bar, workers))


def _in_groups(
    learning: Learning, seeds: Sequence[int], bar: tqdm[Any], together: int
) -> Iterator[Scores]:
    check_together(learning.train)
    groups = (seeds[i : i + together] for i in range(0, len(seeds), together))
    return (one for group in groups for one in learning.learn_together(group, bar))


def _side_by_side(
    learning: Learning, seeds: Sequence[int], bar: tqdm[Any], workers: int
) -> list[Scores]:
    for name, what, value in (
        ("network", "a function or class", learning.make),
        ("trainer", "a function or class", learning.trainer),
        ("protocol", "made of classes", learning.protocol),
    ):
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"'{name}' must be {what} of a module where 'workers' is above 1, so that another "
                f"process finds it: {error}"
            ) from error
    context = torch.multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _begin, (learning, done))
    try:
        futures = [pool.submit(_learn, seed) for seed in seeds]
        waiting = {*futures}
        while waiting:
            finished, waiting = wait(waiting, _LOOK_EVERY, FIRST_COMPLETED)
            bar.update(done.value - bar.n)
            for future in finished:
                future.result()  # Raises what went wrong, so that no other seed is begun.
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise ChildProcessError(f"a process that trains networks died. {WHY_DIED}") from error
    finally:
        pool.shutdown(cancel_futures=True)  # Waits for the seeds that are being trained.


class _Counter:
    """What stands for the progress bar in a process: it only counts epochs."""

    def __init__(self, done: Any) -> None:
        self.done = done

    def update(self, num: int = 1) -> None:
        with self.done.get_lock():
            self.done.value += num

    def set_postfix(self, **words: Any) -> None:
        """Only the bar of the first process says more."""


# What a process does for every seed that it is given, set once when it starts.
_own: tuple[Learning, _Counter]


def _begin(learning: Learning, done: Any) -> None:
    global _own
    begin_worker()
    _own = learning, _Counter(done)


def _learn(seed: int) -> Scores:
    learning, counter = _own
    return learning.learn(seed, counter)  # type: ignore[arg-type]


def _made(make: Callable[..., nn.Module], sizes: tuple[int, ...]) -> nn.Module:
    """A network of these sizes."""
    try:
        model = make(*sizes)
    except TypeError as error:
        raise TypeError(f"'network' must make a network from the sizes {sizes}: {error}") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"'network' must make a torch.nn.Module, got {type(model).__name__}")
    return model
