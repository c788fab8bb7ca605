"""Presets, protocols and seeds: how much work the options of a program ask for."""

from __future__ import annotations

import argparse
from dataclasses import replace

from torch_geometric_ddp.comparison import PRESETS, Preset
from torch_geometric_ddp.evaluation import Protocol, RandomRotation

__all__ = ["changed", "preset_and_seeds"]


def preset_and_seeds(args: argparse.Namespace) -> tuple[Preset, list[int]]:
    """How much work to take, and for which seeds, each once."""
    preset = PRESETS[args.preset or "quick"]
    if args.steps is not None:
        preset = replace(preset, steps=args.steps)
    if args.num_networks is not None:
        preset = replace(preset, num_networks=args.num_networks)
    # Epochs of the whole set that are asked for are not prolonged.
    least = None if args.whole_epochs is None else 0
    whole = changed(args, preset.whole, args.whole_epochs, least)
    protocol = changed(args, preset.protocol, args.epochs, args.min_steps)
    preset = replace(preset, protocol=protocol, whole=whole)
    seeds = range(preset.num_seeds) if args.seeds is None else args.seeds
    return preset, [*dict.fromkeys(seeds)]


def changed(
    args: argparse.Namespace, protocol: Protocol, epochs: int | None, min_steps: int | None
) -> Protocol:
    """A protocol with what the options change of it, which its name says."""
    changes = {
        "epochs": epochs,
        "min_steps": min_steps,
        "lr": args.train_lr,
        "augment": RandomRotation() if args.rotate else None,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    words = [key if key == "augment" else f"{key} {value}" for key, value in changes.items()]
    return replace(protocol, name=", ".join([protocol.name, *words]), **changes)
