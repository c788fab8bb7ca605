"""Several processes on one study: whose turn it is, which trials are taken, lost and repeated."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
import psutil  # PyG depends on it.
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

__all__ = ["counted", "finish", "is_waited_for", "present", "recover", "repeat", "take"]

# How often the settings of a trial are tried whose process died.
_ATTEMPTS = 2
# What marks a trial that another machine made superfluous.
_GIVEN_BACK = "given_back"
# A trial says whose it is at once; one that has not after this many seconds is nobody's.
_GRACE = 60.0
# The workers of this process that are at work.
_present: set[str] = set()


@contextmanager
def present() -> Iterator[dict[str, Any]]:
    """Signs a worker in and out: its machine, process and start, for numbers are given again."""
    process = psutil.Process()
    started = _start_of(process)
    run = uuid.uuid4().hex
    _present.add(run)
    try:
        yield {"host": socket.gethostname(), "pid": process.pid, "started": started, "run": run}
    finally:
        _present.discard(run)


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that are finished, not repeated by another, and not given back."""
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    finished = [trial for trial in trials if trial.state.is_finished() and not _given_back(trial)]
    return [trial for trial in finished if trial.number not in repeated]


def _given_back(trial: FrozenTrial) -> bool:
    return _GIVEN_BACK in trial.user_attrs


def take(study: optuna.Study, n_trials: int, worker: dict[str, Any]) -> optuna.Trial | None:
    """Takes the next trial, or none where all are finished or taken; to be called in a turn.

    A turn is that of one machine. Where another took the last one at the same moment, or put the
    published settings or those of a lost trial there too, the later of the two is given back, so
    that none is too many. A trial that waited, and that two machines took, is left to the one that
    signed it last.

    Args:
        study (optuna.Study): The study.
        n_trials (int): How many trials the study shall have.
        worker (dict): Who takes it, see :meth:`present`.
    """
    while len(_taken(study.get_trials(deepcopy=False))) < n_trials:
        trial = study.ask()
        # Another machine may have taken the very same one, and given it back.
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr("worker", {**worker, "since": time.time()})
            trials = study.get_trials(deepcopy=False)
            if trials[trial.number].user_attrs["worker"]["run"] != worker["run"]:
                continue
            if not _comes_too_late(trials, trial.number, n_trials):
                return trial
            trial.set_user_attr("reason", "another machine took a trial at the same moment")
            trial.set_user_attr(_GIVEN_BACK, True)
            finish(study, trial, state=TrialState.FAIL)
    return None


def _taken(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, and those that are at work."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    return counted(trials) + [trial for trial in running if not _given_back(trial)]


def _comes_too_late(trials: Sequence[FrozenTrial], number: int, n_trials: int) -> bool:
    """Whether a trial must be given back, of which all machines think alike."""
    if sum(trial.number < number for trial in _taken(trials)) >= n_trials:
        return True
    # Of the same settings that several machines put there, the first are tried.
    mine = _origin(trials[number])
    return mine is not None and mine in map(_origin, trials[:number])


def _origin(trial: FrozenTrial) -> Any:
    """Whose settings a trial was given: those of a lost trial, the published ones, or nobody's."""
    published = "published" if "published" in trial.user_attrs else None
    return trial.user_attrs.get("repeats", published)


def finish(study: optuna.Study, trial: optuna.Trial | FrozenTrial, **result: Any) -> bool:
    """Tells the study the values or the state of a trial, unless another process did before."""
    try:
        study.tell(trial.number, **result)
    except (UpdateFinishedTrialError, ValueError):
        if study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            return False
        raise
    return True


def repeat(study: optuna.Study, trial: FrozenTrial, attempt: int) -> None:
    """Lets the settings of a trial be tried again, as a trial of their own."""
    keep = {key: trial.user_attrs[key] for key in ("published",) if key in trial.user_attrs}
    study.enqueue_trial(
        {**trial.system_attrs.get("fixed_params", {}), **trial.params},
        {**keep, "repeats": trial.number, "attempt": attempt},
    )


def recover(study: optuna.Study, lost_after: float | None = None) -> None:
    """Marks the trials of dead processes as failed and repeats each once; to be called in a turn.

    Args:
        study (optuna.Study): The study.
        lost_after (float, optional): After how many seconds a trial of another machine, where
            nobody can look, is taken for dead. (default: never)
    """
    ended = {
        trial.number
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not _lives(trial, lost_after) and finish(study, trial, state=TrialState.FAIL)
    }
    host = socket.gethostname()
    # A process may have died between the two; only its own machine can tell.
    lost = [
        trial
        for trial in counted(study.get_trials(deepcopy=False))
        if trial.number in ended
        or (
            trial.state == TrialState.FAIL
            and "reason" not in trial.user_attrs
            and trial.user_attrs.get("worker", {}).get("host") == host
        )
    ]
    for trial in lost:
        attempt = trial.user_attrs.get("attempt", 1)
        if attempt < _ATTEMPTS:
            repeat(study, trial, attempt + 1)


def is_waited_for(study: optuna.Study) -> bool:
    """Whether another process of this machine is busy with a trial, which it may yet lose."""
    host = socket.gethostname()
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return any(trial.user_attrs.get("worker", {"host": host})["host"] == host for trial in running)


def _start_of(process: psutil.Process) -> float:
    """When a process began, in seconds that stay the same when the clock is set."""
    # Linux counts them from the start of the machine, whose time is then told by the clock.
    origin = psutil.boot_time() if psutil.LINUX else 0.0
    return process.create_time() - origin


def _lives(trial: FrozenTrial, lost_after: float | None) -> bool:
    worker = trial.user_attrs.get("worker")
    began = trial.datetime_start or datetime.now()
    age = (datetime.now() - began).total_seconds()
    if worker is None:
        return age < _GRACE
    if worker["host"] != socket.gethostname():
        # A database tells local times, which may be those of another zone.
        age = time.time() - worker["since"] if "since" in worker else age
        return lost_after is None or age < lost_after
    if worker["pid"] == os.getpid():  # An earlier call in this process may have been left.
        return worker["run"] in _present
    try:
        process = psutil.Process(worker["pid"])
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(_start_of(process) - worker["started"]) < 1.0
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
