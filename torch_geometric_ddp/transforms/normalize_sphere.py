"""Normalisation to the unit ball."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import scatter

from torch_geometric_ddp.transforms._single import points_of


@functional_transform("normalize_sphere")
class NormalizeSphere(BaseTransform):
    r"""Centres a cloud at its mean and scales it to the unit ball
    (functional name: :obj:`normalize_sphere`).

    This is the normalisation of the papers on point-cloud distillation; PyG's
    :obj:`NormalizeScale` scales to a cube instead.
    """  # noqa: D205

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        pos = points_of(data)
        data.pos = self.apply(pos, torch.tensor([pos.size(0)], device=pos.device))
        return data

    @staticmethod
    def apply(pos: Tensor, sizes: Tensor) -> Tensor:
        """Normalises the clouds :obj:`pos [ΣN, 3]` of :obj:`sizes [B]` points each."""
        batch = torch.arange(len(sizes), device=pos.device).repeat_interleave(sizes)
        pos = pos - scatter(pos, batch, dim_size=len(sizes), reduce="mean")[batch]
        radius = scatter(pos.norm(dim=1), batch, dim_size=len(sizes), reduce="max")
        return pos / radius.clamp_min(torch.finfo(pos.dtype).tiny)[batch, None]
