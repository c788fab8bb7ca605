"""Normalisation to the unit ball."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import scatter

from torch_geometric_ddp.ops import at_least_single, unit_of
from torch_geometric_ddp.transforms._single import points_of

# Between these radii neither the squares of coordinates nor their sums leave single precision.
_SMALLEST, _LARGEST = 1e-15, 1e15
# The mean of points that lie farther away, in radii, is a rough one in single precision: at four,
# that of 2,048 points is wrong by up to 1e-5 radii.
_FARTHEST = 4


@functional_transform("normalize_sphere")
class NormalizeSphere(BaseTransform):
    r"""Centres a cloud at its mean and scales it to the unit ball
    (functional name: :obj:`normalize_sphere`).

    This is the normalisation of the papers on point-cloud distillation; PyG's
    :obj:`NormalizeScale` scales to a cube instead. Clouds of any size come out alike, also far from
    the origin, as long as the type of their numbers tells their points apart: centre them before
    you make them shorter. Points that all coincide come out at the origin.
    """  # noqa: D205

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        pos = points_of(data)
        data.pos = self.apply(pos, torch.tensor([pos.size(0)], device=pos.device))
        return data

    @staticmethod
    def apply(pos: Tensor, sizes: Tensor, ordinary: bool = False) -> Tensor:
        """Normalises the clouds :obj:`pos [ΣN, 3]` of :obj:`sizes [B]` points each.

        With :obj:`ordinary` they are known to lie near the unit ball, and are not looked at for
        other sizes and places, which reads a number back from their device.
        """
        batch = torch.arange(len(sizes), device=pos.device).repeat_interleave(
            sizes, output_size=len(pos)
        )
        wide = at_least_single(pos)
        mean = scatter(wide, batch, dim_size=len(sizes), reduce="mean")
        out = wide - mean[batch]
        radius = scatter(out.norm(dim=1), batch, dim_size=len(sizes), reduce="max")
        out = out / radius.clamp_min(torch.finfo(out.dtype).tiny)[batch, None]
        if ordinary:
            return out.to(pos)
        plain = (radius > _SMALLEST) & (radius < _LARGEST)
        plain &= mean.abs().amax(dim=1) <= _FARTHEST * radius
        if len(pos) and not bool(plain.all()):
            out = torch.where(plain[batch, None], out, _exactly(wide, sizes, batch).to(out))
        return out.to(pos)


def _exactly(pos: Tensor, sizes: Tensor, batch: Tensor) -> Tensor:
    """The same of clouds of any size and at any place, in double precision and in longer time."""
    num = len(sizes)
    largest = scatter(pos.detach().abs().amax(dim=1), batch, dim_size=num, reduce="max").double()
    pos = pos.double() / unit_of(largest)[batch, None]
    first = (sizes.cumsum(0) - sizes)[batch]
    pos = pos - pos[first].detach()  # So that the mean is taken of differences.
    pos = pos - scatter(pos, batch, dim_size=num, reduce="mean")[batch]
    radius = scatter(pos.norm(dim=1), batch, dim_size=num, reduce="max")
    return pos / radius.where(radius > 0, 1.0)[batch, None]
