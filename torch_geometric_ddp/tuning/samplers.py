"""Samplers of a search by name, each made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from torch_geometric_ddp._checks import check_callable

__all__ = ["SAMPLERS", "ByNumber", "auto", "find_sampler", "gp", "random_draws", "tpe"]

# With more trials a Gaussian process takes seconds for the next one.
_MOST_OF_GP = 250


def tpe(seed: int) -> BaseSampler:
    """Optuna's tree-structured Parzen estimator, which takes any space and number of trials."""
    return TPESampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    """Optuna's Gaussian process, which needs fewer trials; its first ten are random."""
    return GPSampler(seed=seed)


def random_draws(seed: int) -> BaseSampler:
    """Random settings, against which a search can be held."""
    return RandomSampler(seed=seed)


def auto(seed: int) -> BaseSampler:
    """:meth:`gp` for one objective, numbers alone and up to 250 trials; otherwise :meth:`tpe`."""
    return _Auto(seed)


#: The samplers by name.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": tpe,
    "gp": gp,
    "auto": auto,
    "random": random_draws,
}


def find_sampler(sampler: Any) -> Callable[[int], BaseSampler]:
    """What makes a sampler from a seed, of its name or itself.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is no known name.
    """
    if isinstance(sampler, str):
        if sampler not in SAMPLERS:
            raise ValueError(f"'sampler' must be one of {[*SAMPLERS]}, got {sampler!r}")
        return SAMPLERS[sampler]
    check_callable("sampler", sampler, optional=False)
    found: Callable[[int], BaseSampler] = sampler
    return found


class _Delegating(BaseSampler):
    """A sampler that has another one draw."""

    _drawing: BaseSampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._drawing.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._drawing.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._drawing.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._drawing.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self._drawing.after_trial(study, trial, state, values)


class _Going:
    """A study that ends by its number of trials alone, and not where a sampler stops it."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def stop(self) -> None:
        """Does nothing."""


class ByNumber(_Delegating):
    """A sampler whose draws follow from a seed and the number of the trial.

    A study that goes on thus draws what it would have drawn, and processes that draw at the same
    moment, from the same trials, never draw the same.

    Args:
        make (callable): Makes a sampler from a seed.
        seed (int): The seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._drawing = self._of(0)

    def _of(self, number: int) -> BaseSampler:
        (word,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        return self._make(int(word))  # Samplers take no more than 32 bits.

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Makes the sampler of this trial."""
        self._drawing = self._of(trial.number)
        super().before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        """Has the sampler see the trial; one that has drawn all it can does not end the study."""
        going: Any = _Going(study)
        super().after_trial(going, trial, state, values)


class _Auto(_Delegating):
    """One of two samplers, as the study has it when a trial begins."""

    def __init__(self, seed: int) -> None:
        self._tpe, self._gp = tpe(seed), gp(seed)
        self._drawing = self._tpe

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        trials = study.get_trials(deepcopy=False)
        choices = any(
            isinstance(kind, CategoricalDistribution)
            for other in trials
            for kind in other.distributions.values()
        )
        simple = len(study.directions) == 1 and not choices and len(trials) <= _MOST_OF_GP
        self._drawing = self._gp if simple else self._tpe
        return super().infer_relative_search_space(study, trial)
