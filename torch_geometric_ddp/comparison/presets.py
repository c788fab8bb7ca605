"""How much work a comparison takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch_geometric_ddp.evaluation import CPU, PAPER, SMOKE, Protocol

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """How much work a comparison takes.

    Args:
        name (str): What its figures are called.
        protocol (Protocol): How networks are trained on sets within the budget.
        whole (Protocol): How they are trained on the whole set.
        steps (int, optional): Steps of every optimised method. (default: as published for each)
        num_seeds (int): Runs of every method.
    """

    name: str
    protocol: Protocol
    whole: Protocol
    steps: int | None
    num_seeds: int


# Ten clouds get the 1,000 steps that they get in the paper, so that no method is judged by networks
# that have hardly been trained; 200 clouds get 5,000 instead of the paper's 12,500, and so does
# the whole of ModelNet10. A whole set of fewer clouds gets hardly less, so that it stays the bound.
_CPU = replace(CPU, name="cpu-1000-steps", min_steps=1000)
_CPU_WHOLE = replace(CPU, name="cpu-4500-steps", epochs=10, min_steps=4500)
# For backbones whose steps take ten times as long: half the steps for ten clouds, four passes over
# the whole of ModelNet10.
_SHORT = replace(CPU, name="cpu-500-steps", epochs=40, min_steps=500)
_SHORT_WHOLE = replace(CPU, name="cpu-1500-steps", epochs=4, min_steps=1500)

#: The presets by name.
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper", PAPER, PAPER, None, 10),
        Preset("cpu", _CPU, _CPU_WHOLE, 100, 3),
        Preset("cpu-short", _SHORT, _SHORT_WHOLE, 100, 1),
        Preset("smoke", SMOKE, SMOKE, 2, 2),
    )
}
