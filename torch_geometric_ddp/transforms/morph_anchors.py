"""Shape morphing as a transform."""

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_tensor
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.transforms._single import point_keys


@functional_transform("morph_anchors")
class MorphAnchors(BaseTransform):
    r"""Turns a batch of aligned anchors with convex weights into a batch of morphs, by
    :meth:`~torch_geometric_ddp.ops.morph` (functional name: :obj:`morph_anchors`).

    Takes a batch of :math:`M` aligned clouds with :obj:`weight [L, M]`, of which every row sums
    to one, and gives a batch of :math:`L` clouds. Floating point attributes of the points are
    mixed as the points are. Integer ones (part labels) must agree between the anchors, and stay.
    The morphs carry the label :obj:`y` and the :obj:`category` of the first anchor.

    .. code-block:: python

        anchors = AlignPoints()(Batch.from_data_list([chair, armchair]))
        anchors.weight = torch.tensor([[0.5, 0.5], [0.1, 0.9]])
        morphs = MorphAnchors()(anchors)  # A batch of two clouds.
    """  # noqa: D205

    def forward(self, data: Data) -> Batch:
        """Transforms a batch of anchors."""
        layout = Layout.of(data)
        weight = data.weight if "weight" in data else None
        if weight is not None:
            check_tensor("data.weight", weight, f"L {layout.num_clouds}")
        shape = None if weight is None else list(weight.shape)
        if weight is None or weight.dim() != 2 or weight.size(1) != layout.num_clouds:
            raise ValueError(
                f"'data.weight' must have shape [L, {layout.num_clouds}], a column for each "
                f"anchor, got {shape}"
            )
        if layout.index is not None:
            raise ValueError("'data' must hold aligned clouds of one size, got different sizes")
        one = weight.new_ones(len(weight))
        if bool((weight < 0).any()) or not torch.allclose(weight.sum(dim=1), one, atol=1e-4):
            raise ValueError("'data.weight' must be convex: rows of numbers >= 0 that sum to 1")
        morphs = [Data() for _ in weight]
        points = point_keys(data, alone=layout.num_points == 1) - {"batch", "weight"}
        for key, value in data.items():
            if key not in points:
                continue
            values = layout.dense(value.view(len(value), -1))  # [M, N, F]
            if value.is_floating_point():
                mixed = ops.morph(values, weight.to(values))
            elif bool((values == values[:1]).all()):
                mixed = values[:1].expand(len(weight), -1, -1)
            else:
                raise ValueError(
                    f"'data.{key}' must agree between the aligned anchors, point by point"
                )
            for morph, part in zip(morphs, mixed, strict=True):
                morph[key] = part.view(-1, *value.shape[1:])
        for key in ("y", "category"):
            if isinstance(data.get(key), torch.Tensor) and key not in points:
                for morph in morphs:
                    morph[key] = data[key][:1]
        return Batch.from_data_list(morphs)
