"""The search: a thin layer over Optuna that any number of processes may share."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_ddp._checks import (
    check_callable,
    check_dataset,
    check_device,
    check_flag,
    check_float,
    check_int,
    check_maker,
    check_ppc,
    check_seed,
    check_text,
    shown,
)
from torch_geometric_ddp._files import check_folder, turn
from torch_geometric_ddp._gradients import with_gradients
from torch_geometric_ddp.clouds.splits import check_share, stratified
from torch_geometric_ddp.evaluation import CPU, Protocol, seed_list
from torch_geometric_ddp.evaluation.protocol import check_protocol
from torch_geometric_ddp.methods import Method, ddp
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.tasks import Task, find_task
from torch_geometric_ddp.tuning import workers
from torch_geometric_ddp.tuning.objective import Objective, check_objective
from torch_geometric_ddp.tuning.report import TuningResult
from torch_geometric_ddp.tuning.samplers import ByNumber, find_sampler
from torch_geometric_ddp.tuning.space import SearchSpace, Settings, Space
from torch_geometric_ddp.tuning.storage import (
    check_storage,
    default_pruner,
    find_storage,
    open_study,
)

__all__ = ["tune"]

_log = logging.getLogger(__name__)
# Seconds between two looks at what other processes do.
_POLL = 0.5


@with_gradients
def tune(
    dataset: Iterable[Data],
    ppc: float = 1,
    *,
    space: Space | None = None,
    n_trials: int = 20,
    storage: str | os.PathLike[str] | BaseStorage | None = "tune.journal",
    study_name: str = "tune",
    objectives: Sequence[str] = ("score",),
    steps: int = 200,
    seeds: int | Sequence[int] = 1,
    protocol: Protocol = CPU,
    share: float = 0.2,
    looks: Sequence[float] = (0.5,),
    method: Callable[..., Method] = ddp,
    network: Callable[..., Backbone] | None = None,
    task: Task | str = "classification",
    sampler: Callable[[int], BaseSampler] | str = "tpe",
    pruner: BasePruner | None = None,
    seed_by_seed: bool = False,
    seed: int = 0,
    normalize: bool = True,
    device: torch.device | str | None = None,
    lost_after: float | None = None,
    progress: bool = True,
    begun: Callable[[TuningResult], object] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> TuningResult:
    r"""Searches for the settings of a method that suit a data set best under a storage budget.

    Every trial distils a share of the training set and is judged by what networks trained on the
    result reach on the rest; no test set is seen. The published settings, or what
    of them fits, are the first trial.

    Any number of processes, on any number of machines, may call this with the same storage and
    arguments: they share one study. Each returns when no trial is left to begin and those of its
    own machine are finished; other machines may then still be at theirs. Called again after an
    interruption it goes on. A trial whose process died is marked as failed and repeated once by
    another process of that machine, or at the next call there. A trial that runs out of memory,
    meets NaN or fails otherwise keeps its reason as the user attribute :obj:`reason`, and the
    study goes on.

    .. code-block:: python

        result = tune(ModelNet(root, '10', True, transform=...), 1, n_trials=50, device='cuda')
        synthetic = ddp(**result.settings).distill(dataset, ppc=1)

    Args:
        dataset (Dataset): The training set, as for :meth:`~torch_geometric_ddp.distill`.
            It is read once.
        ppc (float): The storage, in full-resolution clouds per class, as for
            :meth:`~torch_geometric_ddp.distill`. (default: :obj:`1`)
        space (Space, optional): What is searched, such as a :class:`PackedSpace` with the
            :obj:`method` :func:`~torch_geometric_ddp.methods.pkr`. (default: :class:`SearchSpace`)
        n_trials (int): How many finished trials the study shall have altogether, completed, pruned
            or failed; what was repeated counts once. (default: :obj:`20`)
        storage (str, path or optuna.storages.BaseStorage, optional): Where the study is kept: the
            file of a journal, or a URL that Optuna knows (:obj:`sqlite:///study.db`,
            :obj:`postgresql://...`), or :obj:`grpc://host:port`. :obj:`None` keeps it in memory.
            (default: the journal :obj:`tune.journal`)
        study_name (str): The name of the study in its storage. (default: :obj:`"tune"`)
        objectives (sequence of str): :obj:`"score"` (the accuracy or the instance mIoU), and
            beside it :obj:`"bits"` or :obj:`"seconds"` of a distillation for a Pareto front.
            (default: the score)
        steps (int): Optimisation steps of a trial. (default: :obj:`200`)
        seeds (int or sequence of int): The seeds of a trial, or how many of them, counted from 0;
            each is a draw, a distillation and a network. (default: :obj:`1`)
        protocol (Protocol): How networks are trained. (default: :obj:`CPU`)
        share (float): The share of every class that is held out. (default: :obj:`0.2`)
        looks (sequence of float): When a trial is looked at before its end, in shares of its
            steps: its first seed is trained on for a quarter of the epochs (and the least steps of
            the protocol), and the pruner may give it up. Not with several objectives. Leave it out
            where a quarter of the epochs leaves networks near chance. (default: :obj:`(0.5,)`)
        method (callable): Makes the method from the settings, such as
            :obj:`functools.partial(ddp, batch_size=4)`. (default:
            :func:`~torch_geometric_ddp.methods.ddp`)
        network (callable, optional): Makes a backbone from the number of classes, or from the
            numbers of parts and categories. (default: that of the task)
        task (Task or str): :obj:`"classification"` or :obj:`"segmentation"`.
            (default: :obj:`"classification"`)
        sampler (callable or str): Makes a sampler from a seed, anew for every trial, or the name
            of one of :obj:`SAMPLERS`. A grid of Optuna must have the same seed in every trial, as
            it numbers its points by it: :obj:`lambda seed: GridSampler(grid, seed=0)`.
            (default: :obj:`"tpe"`)
        pruner (optuna.pruners.BasePruner, optional): Gives trials up. (default: the median of at
            least five trials, or with :obj:`seed_by_seed` the Wilcoxon test)
        seed_by_seed (bool): Whether the pruner sees the score of every seed instead of looks: a
            trial whose scores are worse than those of the best trial, seed by seed, is given up
            before its last seeds. The test needs four of them, so that it takes five :obj:`seeds`
            to save any time. Not with several objectives. (default: :obj:`False`)
        seed (int): Fixes the split and, with one process, what is sampled. (default: :obj:`0`)
        normalize (bool): Whether the clouds are centred and scaled to the unit ball.
            (default: :obj:`True`)
        device (torch.device, optional): Where to compute. (default: where the clouds lie)
        lost_after (float, optional): After how many seconds a running trial of another machine is
            taken for dead. (default: never)
        progress (bool): Whether to show a progress bar. (default: :obj:`True`)
        begun (callable, optional): Called with the result as it stands, when all was checked and
            before the first trial.
        cache (str or path, optional): A folder for what is computed of the clouds that are
            distilled, such as the networks that :func:`~torch_geometric_ddp.methods.pkr` trains
            for every seed: other processes and later searches find it there, as for
            :func:`~torch_geometric_ddp.distill`. (default: it stays in memory)

    Returns:
        The :class:`TuningResult`.

    Raises:
        TypeError: If an argument is of another type than said above, a range of :obj:`space` no
            tuple, or :obj:`method` does not take what :obj:`space` draws.
        ValueError: If one of these is too small, :obj:`share` or one of :obj:`looks` does not lie
            between 0 and 1, :obj:`objectives` are unknown, or several with :obj:`seed_by_seed`, the
            items of :obj:`dataset` are not
            labelled as :obj:`task` needs them, nothing in :obj:`space` fits :obj:`ppc`,
            :obj:`storage` is a file that is no journal or a damaged one, or the study was begun
            with other data or settings; all before the first trial.
    """
    space = SearchSpace() if space is None else space
    ppc = check_ppc(ppc)
    n_trials, steps = check_int("n_trials", n_trials), check_int("steps", steps)
    seed = check_seed("seed", seed)
    task, seeds = find_task(task), seed_list(seeds)
    if isinstance(space, type) or not isinstance(space, Space):
        raise TypeError(
            f"'space' must be a SearchSpace or another Space, got {type(space).__name__}"
        )
    check_dataset("dataset", dataset)
    check_protocol(protocol)
    check_text("study_name", study_name)
    check_callable("method", method, optional=False)
    by_number = ByNumber(find_sampler(sampler), seed)
    check_maker("network", network)
    check_flag("seed_by_seed", seed_by_seed)
    if pruner is not None and not isinstance(pruner, BasePruner):
        raise TypeError(f"'pruner' must be a pruner of Optuna, got {type(pruner).__name__}")
    check_flag("normalize", normalize)
    check_flag("progress", progress)
    check_callable("begun", begun)
    check_device("device", device)
    if lost_after is not None:
        lost_after = check_float("lost_after", lost_after)
    share = check_share("share", share)
    check_storage(storage)
    folder = None if cache is None else check_folder("cache", cache)
    looks, objectives = check_objective(steps, seeds, looks, objectives, seed_by_seed)
    bank = task.read(dataset, device)
    bank.check_every_class()
    budget = bank.check_budget(bank.budget(ppc))
    space.check(budget)
    # As they were read: what is computed may differ in its last bits between machines.
    own = {"data": bank.sha256(), "normalize": normalize, "space": asdict(space)}
    own |= {"share": share, "seed": seed}
    bank = bank.normalize() if normalize else bank.unscaled()
    kept, held = (bank.select(index) for index in stratified(bank.y, share, seed))
    kept.keep_at_least(len(seeds))  # What is made for a seed comes again in every trial.
    if folder is not None:
        kept.keep_in(folder)
    # What cannot begin at all shall not fail trial by trial; a start is chosen by the trials.
    settings = space.published_settings(budget)
    try:
        usual = method(**settings)
    except TypeError as error:
        raise TypeError(
            f"'method' must take what 'space' draws, {', '.join(settings)}: {error}"
        ) from error
    if not isinstance(usual, Method):
        raise TypeError(f"'method' must make a Method, got {shown(usual)}")
    usual.begin(kept, budget.ppc, seeds[0], network, task, chooses=False)
    objective = Objective(
        kept,
        held,
        budget.ppc,
        steps,
        seeds,
        protocol,
        looks,
        objectives,
        method,
        network,
        task,
        seed_by_seed,
    )
    open_storage, lock = find_storage(storage)
    pruner = default_pruner(seed_by_seed) if pruner is None else pruner
    with turn(lock):
        study = open_study(
            open_storage(),
            study_name,
            objective.objectives,
            by_number,
            pruner,
            own | objective.identity(),
        )
        if not any("published" in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
            study.enqueue_trial(space.published(budget), {"published": True})
    result = TuningResult(study, budget, objectives, task.metric)

    def take(worker: dict[str, Any]) -> tuple[optuna.Trial | None, Settings]:
        with turn(lock):
            workers.recover(study, lost_after)
            while (trial := workers.take(study, n_trials, worker)) is not None:
                with suppress(UpdateFinishedTrialError):  # As another machine gave it back.
                    return trial, space.sample(trial, budget)
            return None, {}

    if begun is not None:
        begun(result)
    _work_off(result, objective, take, n_trials, progress)
    return result


def _work_off(
    result: TuningResult,
    objective: Objective,
    take: Callable[[dict[str, Any]], tuple[optuna.Trial | None, Settings]],
    n_trials: int,
    progress: bool,
) -> None:
    """Runs trials until the study has enough of them, its own and those of other processes."""
    with (
        workers.present() as worker,
        # Trials that are there took no time of this bar, which says how long the others take.
        tqdm(
            total=n_trials,
            initial=min(n_trials, len(result.finished)),
            desc="Tune",
            unit="trial",
            disable=not progress,
        ) as bar,
    ):
        while True:
            trial, settings = take(worker)
            _show(bar, result)
            if trial is not None:
                _work(result.study, trial, settings, objective)
                _show(bar, result)
            elif len(result.finished) < n_trials and workers.is_waited_for(result.study):
                time.sleep(_POLL)
            else:
                return


def _work(
    study: optuna.Study, trial: optuna.Trial, settings: Settings, objective: Objective
) -> None:
    """Runs a trial and tells the study, whatever comes of it."""
    told: dict[str, Any] = {"state": TrialState.FAIL}
    try:
        trial.set_user_attr("settings", settings)
        told = {"values": objective(trial, settings)}
    except optuna.TrialPruned:
        told = {"state": TrialState.PRUNED}
    except UpdateFinishedTrialError:
        pass  # Another machine has finished it.
    except KeyboardInterrupt:
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr("reason", "interrupted")
            # Before it ends, as a process that is killed between the two would lose its settings.
            stopped = study.get_trials(deepcopy=False)[trial.number]
            workers.repeat(study, stopped, stopped.user_attrs.get("attempt", 1))
        workers.finish(study, trial, **told)
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr("reason", reason)
        _log.warning("trial %d failed: %s", trial.number, reason)
    if "values" not in told:
        gc.collect()  # The exception held the tensors of the trial.
        torch.cuda.empty_cache()
    if not workers.finish(study, trial, **told):
        _log.warning("trial %d was finished by another machine, this result goes", trial.number)


def _show(bar: tqdm[Any], result: TuningResult) -> None:
    bar.n = len(result.finished)
    done = result.completed
    if done:
        bar.set_postfix(best=f"{100 * max(trial.values[0] for trial in done):.1f} %")
    bar.refresh()
