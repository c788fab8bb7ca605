"""Surfaces of simple solids as triangles, and even points on them.

Every surface comes from one idea: :func:`loft` joins successive rings of points. Boxes, tubes and
solids of revolution only differ in the rings that they hand to it. Each function returns triangles
:obj:`[T, 3, 3]`; z is up.
"""

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Array = npt.NDArray[np.float64]


def cross(a: Array, b: Array) -> Array:
    """Cross product over the last axis; several times as fast on small arrays as NumPy's own."""
    left, right = a[..., [1, 2, 0]], b[..., [1, 2, 0]]
    return (a * right - left * b)[..., [1, 2, 0]]


def unit(vectors: Array) -> Array:
    """Scale vectors [..., 3] to length one."""
    return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True))


def loft(rings: npt.ArrayLike, capped: bool = True) -> Array:
    """Join closed rings of points, shape [M, K, 3], to the surface that passes through them.

    ``capped`` closes both ends with a fan around the middle of the first and of the last ring.
    """
    rings = np.asarray(rings, dtype=np.float64)
    if capped:
        ends = rings[[0, -1]]
        ends = 0 * ends + ends.mean(axis=1, keepdims=True)
        rings = np.concatenate([ends[:1], rings, ends[1:]])
    turned = np.concatenate([rings[:, 1:], rings[:, :1]], axis=1)
    a, b, c, d = rings[:-1], turned[:-1], rings[1:], turned[1:]
    return np.stack([a, b, c, b, d, c], axis=2).reshape(-1, 3, 3)


def box(
    center: npt.ArrayLike,
    size: npt.ArrayLike,
    taper: float = 1.0,
    lean: tuple[float, float] = (0.0, 0.0),
) -> Array:
    """Box whose upper face is scaled by ``taper`` and moved by ``lean`` in x and y."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    rings = np.empty((2, 4, 3))
    rings[0, :, :2], rings[1, :, :2] = corners, corners * taper
    rings[:, :, 2] = [[-0.5], [0.5]]
    rings = rings * np.asarray(size) + np.asarray(center)
    rings[1, :, :2] += lean
    return loft(rings)


def circle(sides: int) -> Array:
    """Corners [sides, 2] of the regular polygon in the unit circle; four are an upright square."""
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def lathe(profile: npt.ArrayLike, sides: int = 20, capped: bool = False) -> Array:
    """Solid of revolution about the z axis with the outline ``profile`` of (radius, z), [M, 2]."""
    profile = np.asarray(profile, dtype=np.float64)
    rings = np.empty((len(profile), sides, 3))
    rings[:, :, :2] = profile[:, None, :1] * circle(sides)
    rings[:, :, 2] = profile[:, 1:]
    return loft(rings, capped)


def tube(path: npt.ArrayLike, radius: npt.ArrayLike, sides: int = 10) -> Array:
    """Closed tube along ``path`` [M, 3] with one radius or one for each point of the path."""
    path = np.asarray(path, dtype=np.float64)
    padded = np.concatenate([path[:1], path, path[-1:]])
    tangent = unit(padded[2:] - padded[:-2])
    # The axis that the path follows least gives a frame that does not flip along a planar path.
    across = unit(cross(tangent, np.eye(3)[np.abs(tangent).sum(axis=0).argmin()]))
    upward = cross(across, tangent)
    x, y = circle(sides).T[:, None, :, None]
    offset = x * across[:, None] + y * upward[:, None]
    return loft(path[:, None] + np.reshape(radius, (-1, 1, 1)) * offset)


def blade(root: npt.ArrayLike, tip: npt.ArrayLike, chords: tuple[float, float]) -> Array:
    """Flat wing from ``root`` to ``tip`` whose ``chords`` at both ends run along x."""
    root, tip = np.asarray(root, dtype=np.float64), np.asarray(tip, dtype=np.float64)
    normal = 0.06 * unit(cross(np.array([1.0, 0.0, 0.0]), tip - root))
    section = np.array([(0.5, 0, 0), normal, (-0.5, 0, 0), -normal])
    return loft([root + chords[0] * section, tip + chords[1] * section])


def arc(radius: tuple[float, float], start: float, stop: float, points: int = 12) -> Array:
    """Points [points, 2] of an ellipse with two half axes between two angles in radians."""
    angle = np.linspace(start, stop, points)
    return np.stack([radius[0] * np.cos(angle), radius[1] * np.sin(angle)], axis=1)


def sample_surface(mesh: Array, num_points: int, rng: Generator) -> tuple[Array, npt.NDArray]:
    """Draw points uniformly by area from triangles [T, 3, 3], in random order.

    Returns the points [num_points, 3] and the triangle [num_points] that each one lies on.
    """
    first, second = mesh[:, 1] - mesh[:, 0], mesh[:, 2] - mesh[:, 0]
    area = np.linalg.norm(cross(first, second), axis=1).cumsum()
    # One draw in each of num_points equal strata of the area: counts vary less than independent
    # draws would, and no surface is left out that is larger than two strata.
    drawn = (rng.permutation(num_points) + rng.random(num_points)) / num_points * area[-1]
    index = np.minimum(np.searchsorted(area, drawn, side="right"), len(mesh) - 1)
    weight = rng.random((2, num_points, 1))
    weight = np.where(weight.sum(0) > 1, 1 - weight, weight)
    return mesh[index, 0] + weight[0] * first[index] + weight[1] * second[index], index
