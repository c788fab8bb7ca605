"""What the transforms of one cloud share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_points


def points_of(data: Data) -> Tensor:
    """The points :obj:`[N, 3]` of the cloud, checked."""
    if data.batch is not None and int(data.batch.max()) > 0:
        raise ValueError(f"'data' must be one cloud, got a batch of {int(data.batch.max()) + 1}")
    return check_points("data.pos", data.pos, "N 3")


def point_keys(data: Data, alone: bool) -> set[str]:
    """The names of what is told of every point.

    What a cloud has one of is not an attribute of its only point, nor are the bounds of clouds; but
    where clouds have a category, the labels are those of the points.

    Args:
        data (Data): The cloud, or the batch.
        alone (bool): Whether a cloud has one point.
    """
    points = {key for key in data.keys() if data.is_node_attr(key)}  # noqa: SIM118
    single = {"pos", "batch", "y"} if "category" in data else {"pos", "batch"}
    return (points & single if alone else points) - {"ptr"}


def take_points(data: Data, index: Tensor) -> Data:
    """Keeps the points :obj:`index`, and with them every per-point attribute.

    Of several clouds they must be as many as before; one cloud, also of a batch, may change its
    size, and what tells it follows.
    """
    if data.num_edges > 0:
        raise ValueError("'data' must not have edges yet: choose the points before connecting them")
    face = data.get("face")
    if isinstance(face, Tensor) and face.numel() > 0:
        raise ValueError("'data' must not have faces: sample points of them, or drop 'data.face'")
    before = data.num_nodes
    points = point_keys(data, alone=before == 1)
    for key in points:
        value = data[key]
        many = isinstance(value, list | tuple)
        data[key] = type(value)(value[i] for i in index.tolist()) if many else value[index]
    if len(index) != before:
        if data.get("ptr") is not None:
            data.ptr = data.ptr.new_tensor([0, len(index)])
        for key in ("num_points", "num_nodes"):
            if isinstance(data.get(key), int):
                data[key] = len(index)
        # By these a batch gives its clouds back.
        if hasattr(data, "_slice_dict"):
            ends = {key: torch.tensor([0, len(index)]) for key in points & {*data._slice_dict}}
            data._slice_dict = {**data._slice_dict, **ends}
        if hasattr(data, "_num_nodes"):
            data._num_nodes = [len(index)]
    return data
