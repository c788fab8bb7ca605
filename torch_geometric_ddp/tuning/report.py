"""The result of a search."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.tuning.space import Settings
from torch_geometric_ddp.tuning.workers import counted

__all__ = ["FEW", "FEWEST", "TuningResult"]

#: With fewer trials Optuna compares all of them with themselves.
FEWEST = 4
#: With fewer trials importances say little.
FEW = 20
# Studies that are drawn for the spread of importances.
_DRAWS = 30


@dataclass(frozen=True)
class TuningResult:
    """A study as it stands, with names for what it holds.

    Args:
        study (optuna.Study): The study.
        budget (StorageBudget): The storage.
        objectives (tuple of str): What the values of a trial are.
        metric (str): What its score is called. (default: :obj:`"accuracy"`)
    """

    study: optuna.Study
    budget: StorageBudget
    objectives: tuple[str, ...]
    metric: str = "accuracy"

    @property
    def finished(self) -> list[FrozenTrial]:
        """The trials that count, completed, pruned or failed, and not repeated by another."""
        return counted(self.study.get_trials(deepcopy=False))

    @property
    def completed(self) -> list[FrozenTrial]:
        """Those that have values."""
        return [trial for trial in self.finished if trial.state == TrialState.COMPLETE]

    @property
    def reasons(self) -> dict[int, str]:
        """Why trials failed, by their numbers."""
        failed = [trial for trial in self.finished if trial.state == TrialState.FAIL]
        return {t.number: t.user_attrs.get("reason", "its process died") for t in failed}

    @property
    def front(self) -> list[FrozenTrial]:
        """The trials that no other beats in every objective, the best score first."""
        return sorted(self.study.best_trials, key=lambda trial: (-trial.values[0], trial.number))

    @property
    def best(self) -> FrozenTrial:
        """The trial of the best score.

        Raises:
            ValueError: If no trial has completed.
        """
        if not self.completed:
            raise ValueError(f"no trial of the study has completed: {self.reasons}")
        return self.front[0]

    @property
    def settings(self) -> Settings:
        """The settings of the best trial, arguments of the method that was searched."""
        return dict(self.best.user_attrs["settings"])

    @property
    def published(self) -> FrozenTrial | None:
        """The trial of the published settings, if it has completed."""
        found = [trial for trial in self.completed if "published" in trial.user_attrs]
        return found[0] if found else None

    @property
    def idle_share(self) -> float:
        """The share of the time of completed trials that went to neither of their tasks."""
        clocks = [trial.user_attrs["seconds"] for trial in self.completed]
        spans = [trial.duration for trial in self.completed]
        total = sum(span.total_seconds() for span in spans if span is not None)
        busy = sum(sum(clock.values()) for clock in clocks)
        return 1 - busy / total if total else 0.0

    def importances(self) -> dict[str, float]:
        """How much each parameter decides whether a trial is among the best.

        PED-ANOVA (IJCAI 2023), normalised to a sum of one; nothing for fewer than four trials, and
        not much more than a guess for fewer than twenty: see :meth:`importance_spread`.
        """
        if len(self.completed) < FEWEST:
            return {}
        return _importances(self.study, len(self.objectives) > 1)

    def importance_spread(self, seed: int = 0) -> dict[str, float]:
        """How far the :meth:`importances` depend on which trials there happen to be.

        The sample standard deviation over thirty studies whose trials are drawn from the completed
        ones with replacement (the bootstrap); nothing for fewer than four trials.

        Args:
            seed (int): Fixes what is drawn. (default: :obj:`0`)
        """
        found, trials = self.importances(), self.completed
        if not found:
            return {}
        generator = np.random.default_rng(seed)
        drawn: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(_DRAWS):
            with _quiet():
                study = optuna.create_study(directions=self.study.directions)
                study.add_trials(
                    [trials[i] for i in generator.integers(len(trials), size=len(trials))]
                )
            values = _importances(study, len(self.objectives) > 1)
            for name, column in drawn.items():
                column.append(values.get(name, 0.0))
        return {name: float(np.std(column, ddof=1)) for name, column in drawn.items()}


def _importances(study: optuna.Study, several: bool) -> dict[str, float]:
    with _quiet():
        return optuna.importance.get_param_importances(
            study, target=(lambda trial: -trial.values[0]) if several else None
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of few trials, or that less of a target is better, and lines of a log."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
