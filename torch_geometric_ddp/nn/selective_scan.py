"""The selective scan of state space models in plain PyTorch, or by its kernel where installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except (ImportError, OSError):  # Not installed, or built for another torch.
    selective_scan_fn = None

__all__ = ["selective_scan"]

# Numbers of a tensor of states at a time: on a CPU those that fit the cache.
_CPU_STATES, _STATES = 1 << 21, 1 << 27


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""The selective scan of `"Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
    <https://arxiv.org/abs/2312.00752>`_, Section 3.

    .. math::
        h_t = \exp(\Delta_t a) \, h_{t-1} + \Delta_t u_t \, b_t, \qquad
        y_t = c_t^\top h_t, \qquad h_0 = 0

    for each of :obj:`D` channels, with :obj:`S` states each. Chunks of about the root of the
    length are scanned at once, then joined, so that there are twice as many steps as that root and
    not as many as the length; the gradient is the same scan backwards, and recomputes the states
    instead of keeping them. Where :obj:`mamba_ssm` is installed, its kernel is used on a GPU, in
    single precision or lower.

    Args:
        u (torch.Tensor): The sequences :obj:`[B, T, D]`.
        delta (torch.Tensor): The steps :math:`\Delta` :obj:`[B, T, D]`, at least 0.
        a (torch.Tensor): The rates :obj:`[D, S]`, at most 0.
        b (torch.Tensor): The weights into the states :obj:`[B, T, S]`.
        c (torch.Tensor): The weights out of the states :obj:`[B, T, S]`.

    Returns:
        The sequences :math:`y` :obj:`[B, T, D]`.
    """  # noqa: D205
    if _has_kernel(u):
        return selective_scan_fn(u.mT, delta.mT, a, b.mT, c.mT).mT
    length = u.size(1)
    chunk = 1 << (length.bit_length() - 1) // 2
    if length % chunk:  # Steps of length zero at the end, which nobody sees.
        u, delta, b, c = (F.pad(x, (0, 0, 0, -length % chunk)) for x in (u, delta, b, c))
    return _SelectiveScan.apply(u, delta, a, b, c, chunk)[:, :length]


def _has_kernel(u: Tensor) -> bool:
    return selective_scan_fn is not None and u.is_cuda and u.dtype != torch.float64


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int
    ) -> Tensor:
        ctx.save_for_backward(u, delta, a, b, c)
        ctx.chunk = chunk
        out = torch.empty_like(u)
        for i in _blocks(u, a):
            h = _states(u[i], delta[i], a, b[i], chunk)[1]
            out[i] = torch.matmul(h, c[i][..., None])[..., 0]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, a, b, c = ctx.saved_tensors
        d_u, d_delta, d_a, d_b, d_c = (torch.empty_like(x) for x in (u, delta, a, b, c))
        d_a.zero_()
        for i in _blocks(u, a):
            decay, h = _states(u[i], delta[i], a, b[i], ctx.chunk)
            d_c[i] = torch.matmul(grad[i][:, :, None], h)[:, :, 0]
            d_h = grad[i][..., None] * c[i][:, :, None]
            # What a state passes on, it gets back from the next.
            _scan_(decay.roll(-1, dims=1), d_h, ctx.chunk, reverse=True)
            d_step = torch.matmul(d_h, b[i][..., None])[..., 0]
            d_b[i] = torch.matmul((delta[i] * u[i])[:, :, None], d_h)[:, :, 0]
            d_u[i] = d_step * delta[i]
            d_delta[i] = d_step * u[i]
            d_rate = d_h[:, 1:].mul_(h[:, :-1]).mul_(decay[:, 1:])
            d_delta[i, 1:] += (d_rate * a).sum(dim=-1)
            d_a += (d_rate * delta[i][:, 1:, :, None]).sum(dim=(0, 1))
        return d_u, d_delta, d_a, d_b, d_c, None


def _blocks(u: Tensor, a: Tensor) -> Iterator[slice]:
    states = _CPU_STATES if u.device.type == "cpu" else _STATES
    step = max(1, states // (u.size(1) * a.numel()))
    return (slice(i, i + step) for i in range(0, len(u), step))


def _states(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The factors between the states and the states, both :obj:`[B, T, D, S]`."""
    decay = (delta[..., None] * a).exp_()
    h = (delta * u)[..., None] * b[:, :, None]
    _scan_(decay.clone(), h, chunk)
    return decay, h


def _scan_(decay: Tensor, h: Tensor, chunk: int, reverse: bool = False) -> None:
    """Turns what comes in at every step into the states, in place; uses up the factors."""
    decay, h = (x.unflatten(1, (-1, chunk)) for x in (decay, h))
    back, last = (1, 0) if reverse else (-1, -1)
    for j in _steps(chunk, reverse):
        h[:, :, j].addcmul_(decay[:, :, j], h[:, :, j + back])
        decay[:, :, j].mul_(decay[:, :, j + back])
    for k in _steps(h.size(1), reverse):
        h[:, k].addcmul_(decay[:, k], h[:, k + back, last].unsqueeze(1))


def _steps(num: int, reverse: bool) -> range:
    return range(num - 2, -1, -1) if reverse else range(1, num)
