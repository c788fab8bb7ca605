"""Presets: how much work a comparison takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch_geometric_ddp._checks import check_int, check_seed, check_text
from torch_geometric_ddp.evaluation import CPU, PAPER, QUICK, SMOKE, Protocol
from torch_geometric_ddp.evaluation.protocol import check_protocol

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """How much work a comparison takes.

    Args:
        name (str): What its figures are called.
        protocol (Protocol): How networks are trained on sets within the budget.
        whole (Protocol): How they are trained on the whole set.
        steps (int, optional): Steps of every optimised method; :obj:`None` for as many as are
            published for each.
        num_seeds (int): Runs of every method.
        num_networks (int): How many networks are trained on the set of a run, whose mean is its
            figure. (default: :obj:`1`)

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is too small, or a protocol does not normalise clouds.
    """

    name: str
    protocol: Protocol
    whole: Protocol
    steps: int | None
    num_seeds: int
    num_networks: int = 1

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for what in ("protocol", "whole"):
            check_protocol(getattr(self, what), what)
            if not getattr(self, what).normalize:
                raise ValueError(
                    f"'{what}' must have normalize=True, as sets are made of clouds in the unit "
                    f"ball, got {getattr(self, what)}"
                )
        for name in ("num_seeds", "num_networks"):
            object.__setattr__(self, name, check_int(name, getattr(self, name)))
        if self.steps is not None:
            object.__setattr__(self, "steps", check_int("steps", self.steps, minimum=0))

    def check_seeds(self, seeds: Iterable[int]) -> list[int]:
        """The seeds of runs, if those of all of their networks are seeds.

        Raises:
            TypeError: If one is no integer.
            ValueError: If one, or that of a network, is below zero or too large.
        """
        checked = [check_seed("seed", seed) for seed in seeds]
        for seed in checked:
            check_seed("seed", self.network_seeds(seed)[-1])
        return checked

    def network_seeds(self, seed: int) -> list[int]:
        """The seeds of the networks that are trained on the set of a run, others for every run."""
        return [self.num_networks * seed + i for i in range(self.num_networks)]


# 200 clouds get 5,000 steps of training instead of the paper's 12,500, and so does the whole of
# ModelNet10. A whole set of fewer clouds gets hardly less, so that it stays the bound.
_CPU_WHOLE = replace(CPU, name="cpu-whole", epochs=10, min_steps=4500)
# A first look: the whole set gets a fifth of the epochs, each of many times as many clouds, and no
# fewer steps than 200 clouds, so that it stays the bound.
_QUICK_WHOLE = replace(QUICK, name="quick-whole", epochs=20, min_steps=2500)
# For backbones whose steps take ten times as long: half the steps for ten clouds, four passes over
# the whole of ModelNet10.
_SHORT = replace(CPU, name="cpu-short", epochs=40, min_steps=500)
_SHORT_WHOLE = replace(CPU, name="cpu-short-whole", epochs=4, min_steps=1500)

#: The presets by name.
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper", PAPER, PAPER, None, 10),
        Preset("cpu", CPU, _CPU_WHOLE, 100, 3),
        Preset("cpu-short", _SHORT, _SHORT_WHOLE, 100, 1),
        Preset("quick", QUICK, _QUICK_WHOLE, 150, 2),
        Preset("smoke", SMOKE, SMOKE, 2, 2),
    )
}
