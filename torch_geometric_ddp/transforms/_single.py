"""What the transforms of one cloud share."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_points


def points_of(data: Data) -> Tensor:
    """The points :obj:`[N, 3]` of the cloud, checked."""
    return check_points("data.pos", data.pos, "N 3")


def take_points(data: Data, index: Tensor) -> Data:
    """Keeps the points :obj:`index`, and with them every per-point attribute."""
    if data.num_edges > 0:
        raise ValueError("'data' must not have edges yet: choose the points before connecting them")
    points = {key for key in data.keys() if data.is_node_attr(key)}  # noqa: SIM118
    # A label of the cloud is not an attribute of its only point.
    for key in points if points_of(data).size(0) > 1 else {"pos"}:
        data[key] = data[key][index]
    return data
