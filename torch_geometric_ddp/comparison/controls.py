"""Rows that say what codecs alone are worth: real clouds under each, and DDP with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch_geometric_ddp.comparison.cells import Entry
from torch_geometric_ddp.comparison.entries import (
    ChosenStart,
    Coreset,
    Distilled,
    Initial,
    ObservedCoreset,
)
from torch_geometric_ddp.coreset import herding_coreset
from torch_geometric_ddp.methods import ddp, pkr
from torch_geometric_ddp.parameterization import FLOAT32, Codec, Float16, PointSet, Uniform
from torch_geometric_ddp.tasks import Task

__all__ = ["CONTROLS", "CONTROL_FAMILIES", "Family", "strongest_control"]

# The points of a cloud: the fewer bits there are, the fewer points are best.
_SIZES = (32, 64, 128)
# The bits of their coordinates in PKR, of which few points need fewer.
_PKR_DEPTHS = {32: 5, 64: 6, 128: 6}
_DEPTHS = (8, 6, 5, 4)
_WEIGHTS = Uniform(8, "cloud")


def _codecs() -> Iterator[tuple[str, Codec]]:
    """What codecs are called behind the points of a cloud."""
    yield "32", FLOAT32
    yield "16", Float16()
    for depth in _DEPTHS:
        yield f"{depth}", PointSet(depth)
        yield f"{depth} in order", Uniform(depth)


def _real_clouds() -> Iterator[Entry]:
    for num_points in _SIZES:
        for bits, codec in _codecs():
            settings = {"num_points": num_points, "codec": codec}
            one_label = not codec.keeps_order  # Labels of points are stored in their order.
            yield Coreset(f"random {num_points}x{bits}", settings, one_label)
            yield ObservedCoreset(
                f"herding {num_points}x{bits}", settings, one_label, choose=herding_coreset
            )


def _rounded_ddp() -> Iterator[Entry]:
    for depth in _DEPTHS:
        settings = {"codec": Uniform(depth), "weight_codec": _WEIGHTS}
        yield Distilled(f"DDP-{depth}bit", settings, build=ddp)
        after = {**settings, "sees_stored": False}
        yield Distilled(f"DDP-{depth}bit-after", after, build=ddp)


def _small_ddp() -> Iterator[Entry]:
    for num_points in _SIZES:
        settings = {"anchor_points": num_points, "fill": True, "weight_codec": _WEIGHTS}
        for depth in _DEPTHS:
            row = {**settings, "codec": PointSet(depth)}
            yield Distilled(f"DDP {num_points}x{depth}", row, one_label=True, build=ddp)


def _published_ddp() -> Iterator[Entry]:
    yield Distilled("DDP-text", {"anchor_lr": 10.0, "weight_lr": 10.0}, build=ddp)
    yield Distilled("DDP-code", {"anchor_lr": 8.0, "weight_lr": 0.8}, build=ddp)


def _halves() -> Iterator[Entry]:
    for num_points, depth in _PKR_DEPTHS.items():
        random = {"num_points": num_points, "depth": depth, "visits": 0}
        yield Initial(f"mirrored {num_points}x{depth}", random, one_label=True, build=pkr)


def _pkr() -> Iterator[Entry]:
    for num_points, depth in _PKR_DEPTHS.items():
        size = {"num_points": num_points, "depth": depth}
        random, plain = {**size, "visits": 0}, {**size, "mirror": False}
        yield ChosenStart(f"PKR {num_points}-chosen", size, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}-moved", random, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}-unmirrored", plain, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}", size, one_label=True, build=pkr)


@dataclass(frozen=True)
class Family:
    """Rows that differ in the numbers of their names only.

    Args:
        form (str): The form of their names, with what may be left out in brackets.
        about (str): What they are, in a line.
        rows (tuple of Entry): The rows.
    """

    form: str
    about: str
    rows: tuple[Entry, ...]


#: The rows beside :obj:`ENTRIES`, family by family. In a name, N are the points of a cloud or an
#: anchor and B the bits of a coordinate.
CONTROL_FAMILIES: tuple[Family, ...] = (
    Family(
        "random NxB[ in order], herding NxB[ in order]",
        "real clouds of N points on a grid of B bits, as many as fit, stored as sets or (in order) "
        "point by point; Nx32 and Nx16 are in single and half precision",
        tuple(_real_clouds()),
    ),
    Family(
        "DDP-Bbit[-after]",
        "DDP with anchors of B bits and weights of 8, which it sees or which are rounded only "
        "after it was distilled",
        tuple(_rounded_ddp()),
    ),
    Family(
        "DDP NxB",
        "DDP with as many groups as fit, of anchors of N points that are stored as sets",
        tuple(_small_ddp()),
    ),
    Family(
        "DDP-text, DDP-code",
        "DDP at the learning rates of the paper's text and of its code, which differ",
        tuple(_published_ddp()),
    ),
    Family("mirrored NxB", "random real clouds as PKR stores them", tuple(_halves())),
    Family(
        "PKR N[-chosen|-moved|-unmirrored]",
        "PKR with clouds of N points (32 at 5 bits, others at 6); those that it chooses, "
        "untouched; random ones whose points are moved; without mirror images",
        tuple(_pkr()),
    ),
)

#: The same rows by name.
CONTROLS: dict[str, Entry] = {row.name: row for family in CONTROL_FAMILIES for row in family.rows}

# The untouched real clouds that were the strongest on ModelNet10, or level with the strongest, at
# 98,304, 24,576 and 6,144 bits a class, and what comes nearest to them where points have labels.
_STRONGEST = ("mirrored 32x5", "random 32x5 in order")


def strongest_control(task: Task) -> Entry:
    """The row of untouched real clouds that a method has to beat at its bits.

    It is the one that was strongest on ModelNet10, and a rule of thumb for other data: clouds
    without an upright plane of symmetry lose by ``mirrored``.

    Args:
        task (Task): What networks learn.
    """
    return next(CONTROLS[name] for name in _STRONGEST if CONTROLS[name].serves(task))
