"""What `tune` can vary of each method, and the command that distils with what it found."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from torch_geometric_ddp.programs import distill
from torch_geometric_ddp.programs.options import METHOD_OPTIONS, MIRROR, dest_of

__all__ = ["RANGES", "command"]

#: What can be tuned, and the options that are ranges of its settings.
RANGES = {
    "ddp": (
        *("num_anchors", "num_morphs", "anchor_share", "uniformity_lambda"),
        *("anchor_lr", "weight_lr"),
    ),
    "pkr": ("cloud_points", "depth", "lr", "ridge"),
}


def command(args: argparse.Namespace, settings: Mapping[str, Any], seeds: Iterable[int]) -> str:
    """The command line that distils with such settings, on the data and with the work of ours."""
    parser = argparse.ArgumentParser()
    distill.add_arguments(parser)
    own = {o: name for name, o in METHOD_OPTIONS.get(args.method, {}).items()}
    # What is a range here is none there, and the preset of this program need not be that of others.
    # Its workers share trials, and not seeds.
    other = {dest_of(o) for options in METHOD_OPTIONS.values() for o in options.values()}
    other.add("workers")
    values = {name: value for name, value in vars(args).items() if name not in other}
    values |= {
        "preset": args.preset or "quick",
        "seeds": list(seeds),
        "out": args.out / "distill",
    }
    words = ["distill3d", "distill"]
    for action in parser._actions:
        option = action.option_strings[0]
        value = settings.get(own[option]) if option in own else values.get(action.dest)
        if value is None or (value == action.default and action.dest not in ("preset", "out")):
            continue
        if option == "--mirror":
            value = next(word for word, meaning in MIRROR.items() if meaning == value)
        given = [] if action.nargs == 0 else value if isinstance(value, list) else [value]
        words += [option, *map(str, given)]
    return shlex.join(words)
