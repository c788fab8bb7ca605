"""Ten classes of CAD-like objects, drawn at random.

An object is a list of pieces, and a piece is a part name with the triangles of a surface.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from torch_geometric_ddp.datasets._surfaces import (
    Array,
    arc,
    blade,
    box,
    circle,
    lathe,
    sample_surface,
    tube,
)

Piece = tuple[str, Array]  # A part name and the triangles [T, 3, 3] of its surface.
Builder = Callable[[Generator], list[Piece]]

NOISE = 0.005  # Standard deviation of the jitter of a point, as a share of the object's radius.

# Pieces that several classes share, so that the classes resemble each other. ######################


def slab(rng: Generator, size: tuple[float, float, float], z: float, round_: bool) -> Array:
    """Board with its upper side at height ``z``, a box or an elliptic disc."""
    if not round_:
        return box((0, 0, z - size[2] / 2), size, taper=rng.uniform(0.9, 1.0))
    mesh = lathe([(0.5, z - size[2]), (0.5, z)], capped=True)
    mesh[:, :, :2] *= size[:2]
    return mesh


def legs(rng: Generator, width: float, depth: float, height: float) -> list[Array]:
    """What holds up a seat or a top: three or four legs, two panels, or a pedestal."""
    radius, sides = rng.uniform(0.018, 0.04), int(rng.choice([4, 10]))
    style = rng.choice(["legs", "panels", "pedestal"], p=[0.7, 0.12, 0.18])
    if style == "panels":
        place, size = width / 2 - radius, (2 * radius, depth * rng.uniform(0.7, 1.0), height)
        return [box((side * place, 0, height / 2), size) for side in (-1, 1)]
    if style == "pedestal":
        reach = min(width, depth) * rng.uniform(0.3, 0.5)
        column = tube([(0, 0, 0), (0, 0, height)], radius * rng.uniform(1.0, 2.0), sides)
        if rng.random() < 0.5:
            return [column, lathe([(reach, 0), (reach, radius), (0, 2 * radius)], capped=True)]
        spokes = circle(int(rng.integers(3, 6))) * reach
        return [column, *(tube([(0, 0, 2 * radius), (x, y, 0)], radius) for x, y in spokes)]
    count = int(rng.choice([3, 4, 4, 4]))
    corners = circle(count) * (width / 2 - radius, depth / 2 - radius)
    corners *= 2**0.5 if count == 4 else 1.1
    inset, taper = rng.uniform(0.75, 1.0, size=2)
    return [
        tube([(x, y, 0), (x * inset, y * inset, height)], [radius * taper, radius], sides)
        for x, y in corners
    ]


def backrest(rng: Generator, width: float, y: float, z: float, height: float) -> list[Array]:
    """Back above the edge at ``y`` of a seat: a panel, or rails between two posts."""
    lean, thick = -rng.uniform(0.0, 0.35) * height, rng.uniform(0.03, 0.07)
    if rng.random() < 0.5:
        gap = rng.choice([0.0, 0.3]) * height
        center = (0, y, z + (gap + height) / 2)
        return [box(center, (width, thick, height - gap), rng.uniform(0.75, 1.0), (0, lean))]
    rails = [(side * width / 2, 0.0, side * width / 2, 1.0) for side in (-1, 1)]
    rails += [(-width / 2, 1.0, width / 2, 1.0)]
    if rng.random() < 0.5:
        heights = np.linspace(0.25, 0.75, rng.integers(1, 4))
        rails += [(-width / 2, h, width / 2, h) for h in heights]
    else:
        rails += [(x, 0.0, x, 1.0) for x in width * np.linspace(-0.3, 0.3, rng.integers(2, 6))]
    paths = [[(x, y + h * lean, z + h * height) for x, h in (rail[:2], rail[2:])] for rail in rails]
    return [tube(path, thick / 2) for path in paths]


def parts(name: str, meshes: list[Array]) -> list[Piece]:
    """Give every mesh the same part name."""
    return [(name, mesh) for mesh in meshes]


# One builder a class; lengths are about metres for furniture. #####################################


def airplane(rng: Generator) -> list[Piece]:
    """Fuselage along x, one or two pairs of wings, a tail, and jets, propellers or neither."""
    length, radius = rng.uniform((1.5, 0.07), (2.3, 0.15))
    x = length * np.array([0.5, 0.47, 0.4, 0.2, -0.15, -0.35, -0.5])
    hull = radius * np.array([0.1, 0.5, 0.85, 1.0, 1.0, 0.7, 0.2])
    pieces = [("body", tube(np.stack([x, 0 * x, 0 * x], axis=1), hull, sides=12))]
    span, chord, sweep = rng.uniform((0.6, 0.15, 0.0), (1.1, 0.35, 0.7))
    root, tip = rng.uniform(-0.1, 0.2) * length, chord * rng.uniform(0.2, 1.0)
    z, rise = radius * rng.uniform(-0.8, 0.9), rng.uniform(-0.1, 0.15)
    levels = [z, z + rng.uniform(0.15, 0.35)] if rng.random() < 0.15 else [z]
    tail, size, height = -0.45 * length, rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.45)
    top = rng.choice([0.0, height])  # The tail plane sits on the hull or on the fin.
    count, place = int(rng.integers(0, 3)), rng.uniform(0.25, 0.6)
    pieces.append(("tail", blade((tail, 0, 0), (tail - 0.1, 0, height), (0.25, 0.12))))
    for side in (-1, 1):
        for level in levels:
            end = (root - sweep * span, side * span, level + rise)
            pieces.append(("wing", blade((root, 0, level), end, (chord, tip))))
        end = (tail - 0.1, side * span * size * 0.7, top)
        pieces.append(("tail", blade((tail - top * 0.2, 0, top), end, (0.22, 0.12))))
        for i in range(1, count + 1):
            y = side * span * place * i
            at = root - sweep * abs(y)
            engine = [(at + 0.25, y, z - 0.06), (at - 0.1, y, z - 0.06)]
            pieces.append(("engine", tube(engine, [0.06, 0.04])))
    if count == 0:
        nose = (0.51 * length, 0, 0)
        pieces.append(("engine", tube([nose, (0.53 * length, 0, 0)], rng.uniform(0.1, 0.3))))
    return pieces


def bed(rng: Generator) -> list[Piece]:
    """Mattress on a frame with a headboard, perhaps a footboard, pillows, or posts."""
    width, length, height = rng.uniform((1.0, 1.9, 0.25), (1.8, 2.1, 0.4))
    thick, head = rng.uniform((0.12, 0.15), (0.25, 0.5))
    pieces = [
        ("frame", box((0, 0, height - 0.05), (width, length, 0.1))),
        ("mattress", box((0, 0, height + thick / 2), (width * 0.96, length * 0.97, thick), 0.97)),
    ]
    pieces += parts("leg", legs(rng, width, length, height - 0.1))
    tops = [head, head * rng.uniform(0.2, 0.9)] if rng.random() < 0.4 else [head]
    for y, top in zip((length / 2, -length / 2), tops, strict=False):
        pieces += parts("headboard", backrest(rng, width, y, height, thick + top))
    if rng.random() < 0.75:
        count = 1 if width < 1.3 else 2
        for x in np.linspace(-0.23, 0.23, count) * width if count > 1 else [0.0]:
            center = (x, length * 0.38, height + thick + 0.06)
            pieces.append(("pillow", box(center, (width * 0.8 / count, 0.4, 0.12), 0.7)))
    if rng.random() < 0.15:
        for x, y in circle(4) * 2**0.5 * (width / 2, length / 2):
            pieces.append(("frame", tube([(x, y, height), (x, y, height + 1.6)], 0.04, 4)))
    return pieces


def bottle(rng: Generator) -> list[Piece]:
    """Round or square body, shoulders, a neck with a cap, and now and then a handle."""
    radius, height, neck = rng.uniform((0.12, 0.5, 0.15), (0.28, 0.9, 0.45))
    throat = radius * rng.uniform(0.2, 0.5)
    sides, bulge = int(rng.choice([4, 20], p=[0.25, 0.75])), rng.uniform(0.85, 1.15)
    shoulder = height + rng.uniform(0.02, 0.3)
    body = [(0, 0), (radius, 0), (radius * bulge, height / 2), (radius, height)]
    body += [(throat * 0.4 + radius * 0.6, height * 0.3 + shoulder * 0.7), (throat, shoulder)]
    flare, top = throat * rng.uniform(0.8, 1.3), shoulder + neck
    cap = [(flare * 1.15, top), (flare * 1.15, top + rng.uniform(0.04, 0.15))]
    pieces = [
        ("body", lathe(body, sides)),
        ("neck", lathe([(throat, shoulder), (flare, top)], sides)),
    ]
    if rng.random() < 0.7:
        pieces.append(("cap", lathe(cap, sides, capped=True)))
    if rng.random() < 0.2:
        y, z = arc((rng.uniform(0.15, 0.3), (top - height) / 2), np.pi / 2, -np.pi / 2).T
        path = np.stack([0 * y, y + throat, z + (top + height) / 2], axis=1)
        pieces.append(("handle", tube(path, 0.03)))
    return pieces


def car(rng: Generator) -> list[Piece]:
    """Saloon, estate, van, pickup or lorry on four or six wheels."""
    length, width, height = rng.uniform((1.7, 0.7, 0.2), (2.4, 0.9, 0.35))
    cabin, tall = rng.uniform((0.3, 0.2), (0.9, 0.7))
    wheel = rng.uniform(0.12, 0.24)
    middle = rng.uniform(-0.5, 0.5) * (1 - cabin) * length
    size = (cabin * length, width * 0.95, tall)
    slope = (rng.uniform(-0.2, 0.2) * cabin * length, 0.0)
    center = (middle, 0, wheel + height + tall / 2)
    pieces = [
        ("body", box((0, 0, wheel + height / 2), (length, width, height), rng.uniform(0.85, 1))),
        ("cabin", box(center, size, rng.uniform(0.55, 1.0), slope)),
    ]
    for x in np.linspace(-0.33, 0.33, rng.choice([2, 3], p=[0.8, 0.2])) * length:
        for y in (-width / 2, width / 2):
            path = [(x, y - 0.06, wheel), (x, y + 0.06, wheel)]
            pieces.append(("wheel", tube(path, wheel, sides=14)))
    return pieces


def chair(rng: Generator) -> list[Piece]:
    """Seat with a back on legs, panels or a pedestal, with armrests or without."""
    width, depth, height = rng.uniform((0.45, 0.42, 0.32), (0.62, 0.58, 0.5))
    back, thick = rng.uniform((0.35, 0.03), (0.7, 0.1))
    seat = slab(rng, (width, depth, thick), height, rng.random() < 0.25)
    pieces = [("seat", seat), *parts("leg", legs(rng, width, depth, height - thick))]
    pieces += parts("back", backrest(rng, width * 0.95, -depth / 2, height, back))
    if rng.random() < 0.4:
        rise, radius = rng.uniform(0.12, 0.28), rng.uniform(0.012, 0.03)
        for x in (-width / 2, width / 2):
            path = [(x, -depth / 2, height + rise), (x, depth * 0.3, height + rise)]
            path += [(x, depth * 0.4, height)]
            pieces.append(("armrest", tube(path, radius, 4)))
    return pieces


def lamp(rng: Generator) -> list[Piece]:
    """Floor or table lamp, desk lamp with a bent arm, or a lamp that hangs from a plate."""
    height, radius, foot = rng.uniform((0.9, 0.18, 0.12), (1.6, 0.35, 0.28))
    tall, narrow = rng.uniform((0.15, 0.3), (0.4, 0.9))
    x = rng.uniform(0.2, 0.6) * rng.choice([0.0, 1.0], p=[0.7, 0.3])
    thin = rng.uniform(0.012, 0.035)
    shade = lathe([(radius, height - tall), (radius * narrow, height)], capped=rng.random() < 0.4)
    shade[:, :, 0] += x
    pole = [(0, 0, 0), (0, 0, height)]
    if x > 0:
        pole = [(0, 0, 0), (-x / 2, 0, height * rng.uniform(0.3, 0.7)), (x, 0, height)]
    base = [(foot, 0), (foot, 0.03), (foot * rng.choice([0.2, 0.9]), rng.uniform(0.04, 0.2))]
    pieces = [("shade", shade), ("pole", tube(pole, thin)), ("base", lathe(base, capped=True))]
    if rng.random() < 0.25:
        for _, mesh in pieces[1:]:
            mesh[:, :, 2] = 2 * height - tall - mesh[:, :, 2]
    return pieces


def mug(rng: Generator) -> list[Piece]:
    """Open cup with a wall, a bottom, and mostly one, seldom two or no handles."""
    height, radius, thick = rng.uniform((0.6, 0.28, 0.02), (1.0, 0.45, 0.06))
    lower, belly = rng.uniform((0.55, 0.9), (1.1, 1.25)) * (radius, 1.0)
    wall = [(lower, 0), ((lower + radius) / 2 * belly, height / 2), (radius, height)]
    inner = [(r - thick, z) for r, z in wall[::-1]]
    pieces = [
        ("body", lathe(wall + inner)),
        ("bottom", lathe([(0, 0), (lower, 0)])),
    ]
    if rng.random() < 0.2:
        pieces.append(("bottom", lathe([(0, -0.02), (radius * 1.5, 0.04)])))
    reach, size, middle = rng.uniform((0.15, 0.2, 0.4), (0.35, 0.4, 0.6))
    for side in [1, -1][: rng.choice([0, 1, 2], p=[0.12, 0.78, 0.1])]:
        y, z = arc((reach, height * size), np.pi / 2, -np.pi / 2).T
        path = np.stack([0 * y, side * (y + (radius + lower) / 2), z + height * middle], axis=1)
        pieces.append(("handle", tube(path, rng.uniform(0.03, 0.07))))
    return pieces


def sofa(rng: Generator) -> list[Piece]:
    """Wide cushioned seat with a back, arms or none, perhaps a long corner, on low feet."""
    width, depth, height = rng.uniform((1.1, 0.65, 0.3), (2.1, 0.85, 0.4))
    back, thick, foot = rng.uniform((0.4, 0.12, 0.03), (0.65, 0.25, 0.15))
    seat = (0, 0, (foot + height) / 2)
    center = (0, -depth / 2, (height + back + foot) / 2)
    pieces = [
        ("seat", box(seat, (width, depth, height - foot))),
        ("back", box(center, (width, thick, height + back - foot), 1.0, (0, -0.2 * back))),
    ]
    if rng.random() < 0.7:
        arm, rise = rng.uniform((0.08, 0.1), (0.25, 0.35))
        for x in (-(width + arm) / 2, (width + arm) / 2):
            center = (x, 0, (foot + height + rise) / 2)
            pieces.append(("arm", box(center, (arm, depth, height + rise - foot))))
    if rng.random() < 0.2:
        center = (width * 0.33 * rng.choice([-1, 1]), depth * 0.9, (foot + height) / 2)
        pieces.append(("seat", box(center, (width * 0.34, depth * 0.8, height - foot))))
    return pieces + parts("leg", legs(rng, width, depth, foot))


def stool(rng: Generator) -> list[Piece]:
    """Seat without a back, or with a very low one, on legs that a footrest may join."""
    width, height, thick = rng.uniform((0.32, 0.4, 0.03), (0.48, 0.75, 0.12))
    depth = width * rng.uniform(0.75, 1.0)
    seat = slab(rng, (width, depth, thick), height, rng.random() < 0.6)
    pieces = [("seat", seat), *parts("leg", legs(rng, width, depth, height - thick))]
    if rng.random() < 0.5:
        x, y = arc((width * 0.45, depth * 0.45), 0, 2 * np.pi, 17).T
        path = np.stack([x, y, 0 * x + height * rng.uniform(0.2, 0.4)], axis=1)
        pieces.append(("footrest", tube(path, rng.uniform(0.012, 0.025), 6)))
    if rng.random() < 0.15:
        pieces += parts("back", backrest(rng, width * 0.8, -depth / 2, height, 0.12))
    return pieces


def table(rng: Generator) -> list[Piece]:
    """Round or square top, wide, low or tall, with a shelf or drawers below it or without."""
    width, depth, height = rng.uniform((0.9, 0.7, 0.45), (1.7, 1.0, 0.8))
    thick, round_ = rng.uniform(0.02, 0.07), rng.random() < 0.3
    top = slab(rng, (width, depth, thick), height, round_)
    inner = rng.uniform(0.65, 0.95) * (0.7 if round_ else 1.0)
    below = legs(rng, width * inner, depth * inner, height - thick)
    pieces = [("top", top), *parts("leg", below)]
    if rng.random() < 0.25:
        size = (width * inner, depth * inner, 0.02)
        pieces.append(("shelf", slab(rng, size, height * rng.uniform(0.15, 0.5), round_)))
    elif rng.random() < 0.25:
        size = (width * 0.3, depth * 0.8, height * rng.uniform(0.2, 0.6))
        center = (width * 0.25 * rng.choice([-1, 1]), 0, height - thick - size[2] / 2)
        pieces.append(("drawer", box(center, size)))
    return pieces


CLASSES: dict[str, tuple[Builder, tuple[str, ...]]] = {
    "airplane": (airplane, ("body", "wing", "tail", "engine")),
    "bed": (bed, ("frame", "mattress", "headboard", "pillow", "leg")),
    "bottle": (bottle, ("body", "neck", "cap", "handle")),
    "car": (car, ("body", "cabin", "wheel")),
    "chair": (chair, ("seat", "back", "leg", "armrest")),
    "lamp": (lamp, ("base", "pole", "shade")),
    "mug": (mug, ("body", "bottom", "handle")),
    "sofa": (sofa, ("seat", "back", "arm", "leg")),
    "stool": (stool, ("seat", "back", "leg", "footrest")),
    "table": (table, ("top", "leg", "shelf", "drawer")),
}


def generate(name: str, num_points: int, rng: Generator) -> tuple[Array, npt.NDArray[np.int64]]:
    """Draw one object: its points [num_points, 3] in the unit ball, and their parts.

    The parts [num_points] are counted within the class, in the order of ``CLASSES``.
    """
    builder, part_names = CLASSES[name]
    pieces = builder(rng)
    mesh = np.concatenate([triangles for _, triangles in pieces]) * rng.uniform(0.9, 1.1, size=3)
    yaw = rng.uniform(0.0, 2 * np.pi)
    cos, sin = np.cos(yaw), np.sin(yaw)
    pos, index = sample_surface(mesh, num_points, rng)
    pos = pos @ [[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]
    owner = np.repeat(
        [part_names.index(name) for name, _ in pieces],
        [len(triangles) for _, triangles in pieces],
    )
    pos -= pos.mean(axis=0)
    pos += NOISE * np.linalg.norm(pos, axis=1).max() * rng.standard_normal(pos.shape)
    pos -= pos.mean(axis=0)
    radius = np.linalg.norm(pos, axis=1).max()
    return pos / (radius if radius > 0 else 1.0), owner[index]
