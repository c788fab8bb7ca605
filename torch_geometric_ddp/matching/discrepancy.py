"""Squared maximum mean discrepancy with a sum of Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_float, check_tensor, shown
from torch_geometric_ddp.ops import at_least_single, shared_unit

__all__ = ["MULTIPLIERS", "mmd", "mmd_near_zero"]


#: The multipliers of the bandwidth, as published.
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd(x: Tensor, y: Tensor, multipliers: Sequence[float] = MULTIPLIERS) -> Tensor:
    r"""Squared maximum mean discrepancy between the rows of :obj:`x` and of :obj:`y`.

    .. math::
        \operatorname{MMD}^2(X, Y) = \overline{K_{XX}} - 2 \overline{K_{XY}} + \overline{K_{YY}},
        \qquad K_{ij} = \sum_s \exp\!\left(-\frac{d_{ij}^2}{s \, \sigma}\right)

    where :math:`\sigma` is the mean squared distance between the rows of :math:`[X; Y]` (the sum
    over all pairs, divided by :math:`n^2 - n`), through which no gradient flows, and :math:`s`
    runs over :obj:`multipliers`. The means include the diagonals (SADM and DDP, ICLR 2026).

    Several sets :obj:`x` may be compared with the same :obj:`y` at the cost of one: give
    :obj:`x` a dimension of sets before its rows.

    Args:
        x (torch.Tensor): The first set :obj:`[*, n, D]`, or :obj:`[*, P, n, D]` for
            :obj:`P` sets which are compared with one :obj:`y` each.
        y (torch.Tensor): The second set :obj:`[*, m, D]`.
        multipliers (sequence of float): Multipliers :math:`s` of the bandwidth.
            (default: :obj:`(0.25, 0.5, 1, 2, 4)`)

    Returns:
        The discrepancies :obj:`[*]`, or :obj:`[*, P]`.

    Raises:
        TypeError: If :obj:`x` and :obj:`y` are no tensors of one floating point type, or a
            multiplier is no number.
        ValueError: If :obj:`y` has not the shape :obj:`[*, m, D]` for that of :obj:`x`, one of
            them is empty, or there is no multiplier or one that is not above 0.
    """
    for name, rows in (("x", x), ("y", y)):
        if not check_tensor(name, rows, "*, n, D").is_floating_point() or rows.dtype != x.dtype:
            raise TypeError(
                f"'x' and 'y' must have one floating point type, got '{name}' of {rows.dtype}"
            )
    if not isinstance(multipliers, Sequence):
        raise TypeError(f"'multipliers' must be a sequence of numbers, got {shown(multipliers)}")
    if len(multipliers) < 1:
        raise ValueError("'multipliers' must hold a number, got none")
    for multiplier in multipliers:
        check_float("multipliers", multiplier, exclusive=True)
    more = x.dim() - y.dim()
    fits = y.dim() >= 2 and more in (0, 1) and y.shape[:-2] == x.shape[: y.dim() - 2]
    if not fits or x.size(-1) != y.size(-1):
        raise ValueError(
            "'x' and 'y' must have shapes [*, n, D] or [*, P, n, D] and [*, m, D], got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    if x.size(-2) < 1 or y.size(-2) < 1:
        raise ValueError(f"'x' and 'y' must each have a row, got {x.size(-2)} and {y.size(-2)}")
    if x.numel() == 0:
        raise ValueError(f"'x' must hold a number, got shape {list(x.shape)}")
    wide_x, wide_y = at_least_single(x), at_least_single(y)
    # Far from the origin the products hide the differences, and squares of very large or small
    # numbers are infinite or zero.
    middle = wide_y.detach().mean(dim=-2, keepdim=True)
    wide_x, wide_y = wide_x - (middle.unsqueeze(-3) if more else middle), wide_y - middle
    sets = [
        rows.detach().reshape(middle[..., 0].numel(), -1, x.size(-1)) for rows in (wide_x, wide_y)
    ]
    unit = shared_unit(*sets).view_as(middle[..., :1])
    wide_x, wide_y = wide_x / (unit.unsqueeze(-3) if more else unit), wide_y / unit
    return mmd_near_zero(wide_x, wide_y, multipliers).to(x.dtype)


def mmd_near_zero(x: Tensor, y: Tensor, multipliers: Sequence[float] = MULTIPLIERS) -> Tensor:
    """The same of rows that fit, whose differences are not small beside themselves."""
    x, y = at_least_single(x), at_least_single(y)
    single = x.dim() == y.dim()
    x = x.unsqueeze(-3) if single else x
    batch, (sets, n, channels), m = x.shape[:-3], x.shape[-3:], y.size(-2)
    x, y = x.reshape(-1, sets, n, channels), y.reshape(-1, m, channels)
    g_xx, g_yy, g_yx = _Products.apply(x, y)
    g_yx = g_yx.view(-1, m, sets, n).transpose(1, 2)  # [B, P, m, n]

    s_x, s_y = g_xx.diagonal(dim1=-2, dim2=-1), g_yy.diagonal(dim1=-2, dim2=-1)
    d_xx = (s_x[..., :, None] + s_x[..., None, :] - 2 * g_xx).clamp_min(0)
    d_yy = (s_y[..., :, None] + s_y[..., None, :] - 2 * g_yy).clamp_min(0)
    d_yx = (s_y[:, None, :, None] + s_x[:, :, None, :] - 2 * g_yx).clamp_min(0)

    with torch.no_grad():
        total = d_xx.sum((-2, -1)) + d_yy.sum((-2, -1))[:, None] + 2 * d_yx.sum((-2, -1))
        # Where all rows coincide every distance is 0, and any bandwidth gives the right 0.
        limits = torch.finfo(total.dtype)
        total = total.where(total > limits.tiny / limits.eps, 1.0)
        bandwidth = total / ((n + m) ** 2 - (n + m))
        scale = torch.stack([multiplier * bandwidth for multiplier in multipliers])  # [S, B, P]
        rate = -1 / scale[..., None, None]

    def kernel(dist: Tensor) -> Tensor:
        return (dist * rate).exp().sum(0).mean((-2, -1))

    out = kernel(d_xx) - 2 * kernel(d_yx) + kernel(d_yy[:, None])
    return out.view(batch) if single else out.view(*batch, sets)


class _Products(torch.autograd.Function):
    """The inner products between the rows of each set of x, of y, and of y with all of x.

    By hand because rows are few and very long: two large products give a gradient, where autograd
    would take three and add up copies.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        return torch.matmul(x, x.mT), torch.bmm(y, y.mT), torch.bmm(y, x.flatten(1, 2).mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, g_xx: Tensor, g_yy: Tensor, g_yx: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        d_x = d_y = None
        if ctx.needs_input_grad[0]:
            d_x = torch.bmm(g_yx.mT, y).view(x.shape) + torch.matmul(g_xx + g_xx.mT, x)
        if ctx.needs_input_grad[1]:
            d_y = torch.bmm(g_yx, x.flatten(1, 2)).baddbmm_(g_yy + g_yy.mT, y)
        return d_x, d_y
