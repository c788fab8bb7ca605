"""Rows that say what codecs alone are worth: real clouds under each, and DDP with them."""

from __future__ import annotations

from collections.abc import Iterator

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
from torch_geometric_ddp.parameterization import FLOAT32, Codec, PointSet, Uniform

__all__ = ["CONTROLS"]

# 128 points are best in the room of a whole cloud, 64 in a part of it.
_SIZES = (64, 128)
_DEPTHS = (8, 6, 5, 4)
_WEIGHTS = Uniform(8, "cloud")


def _codecs() -> Iterator[tuple[str, Codec]]:
    """What codecs are called behind the points of a cloud."""
    yield "32", FLOAT32
    for depth in _DEPTHS:
        yield f"{depth}", PointSet(depth)
        yield f"{depth} in order", Uniform(depth)


def _rows() -> Iterator[Entry]:
    for num_points in _SIZES:
        for bits, codec in _codecs():
            settings = {"num_points": num_points, "codec": codec}
            # Labels of points are stored in their order.
            kept = {"one_label": not codec.keeps_order}
            yield Coreset(f"random {num_points}x{bits}", settings, **kept)
            yield ObservedCoreset(
                f"herding {num_points}x{bits}", settings, choose=herding_coreset, **kept
            )
    for depth in _DEPTHS:
        settings = {"codec": Uniform(depth), "weight_codec": _WEIGHTS}
        yield Distilled(f"DDP-{depth}bit", settings, build=ddp)
        after = {**settings, "sees_stored": False}
        yield Distilled(f"DDP-{depth}bit-after", after, build=ddp)
    for num_points in _SIZES:
        settings = {"anchor_points": num_points, "fill": True, "weight_codec": _WEIGHTS}
        for depth in _DEPTHS:
            row = {**settings, "codec": PointSet(depth)}
            yield Distilled(f"DDP {num_points}x{depth}", row, one_label=True, build=ddp)
    for num_points in _SIZES:
        size = {"num_points": num_points}
        random, plain = {**size, "visits": 0}, {**size, "mirror": False}
        yield Initial(f"mirrored {num_points}x6", random, one_label=True, build=pkr)
        yield ChosenStart(f"PKR {num_points}-chosen", size, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}-moved", random, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}-unmirrored", plain, one_label=True, build=pkr)
        yield Distilled(f"PKR {num_points}", size, one_label=True, build=pkr)


#: Rows beside :obj:`ENTRIES`, by name. ``random 64x6`` are real clouds of 64 points on a grid of 6
#: bits a coordinate, stored as sets, as many as fit; those ``in order`` are stored point by point,
#: and ``32`` bits are single precision. ``DDP-8bit`` is DDP with anchors and weights of 8 bits, and
#: ``DDP-8bit-after`` the same but rounded only after it was distilled (post-training quantisation);
#: ``DDP 64x6`` has as many groups as fit of anchors of 64 points, stored as sets. ``PKR 64`` is PKR
#: with clouds of 64 points, ``mirrored 64x6`` random real clouds as it stores them, ``-chosen``
#: those that it chooses, untouched, ``-moved`` random ones whose points are moved, and
#: ``-unmirrored`` the method without mirror images.
CONTROLS: dict[str, Entry] = {row.name: row for row in _rows()}
