"""The selective scan of state space models in plain PyTorch, or by its kernel where installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except (ImportError, OSError):  # Not installed, or built for another torch.
    selective_scan_fn = None

__all__ = ["selective_scan"]

# The most numbers of a tensor of states that a gradient needs, and those that fit a CPU's cache.
_KEPT, _CACHED = 1 << 26, 1 << 17


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""The selective scan of `"Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
    <https://arxiv.org/abs/2312.00752>`_, Section 3.

    .. math::
        h_t = \exp(\Delta_t a) \, h_{t-1} + \Delta_t u_t \, b_t, \qquad
        y_t = c_t^\top h_t, \qquad h_0 = 0

    for each of :obj:`D` channels, with :obj:`S` states each. On a CPU the states of a few steps at
    a time stay in its cache. On a GPU chunks of about the root of the length are scanned at once,
    then joined, so that there are twice as many steps as that root and not as many as the length.
    The gradient is the same scan backwards, and recomputes the states instead of keeping them.
    Where :obj:`mamba_ssm` is installed, its kernel is used on a GPU, in single precision or lower.

    Args:
        u (torch.Tensor): The sequences :obj:`[B, T, D]`.
        delta (torch.Tensor): The steps :math:`\Delta` :obj:`[B, T, D]`, at least 0.
        a (torch.Tensor): The rates :obj:`[D, S]`, at most 0.
        b (torch.Tensor): The weights into the states :obj:`[B, T, S]`.
        c (torch.Tensor): The weights out of the states :obj:`[B, T, S]`.

    Returns:
        The sequences :math:`y` :obj:`[B, T, D]`.
    """  # noqa: D205
    if _has_kernel(u):  # Which wants all in one type, but the rates in single precision.
        sequences = [x.to(u.dtype).mT for x in (u, delta, b, c)]
        return selective_scan_fn(*sequences[:2], a.float(), *sequences[2:]).mT
    kind = torch.promote_types(u.dtype, delta.dtype)  # Autocast mixes them.
    u, delta, a, b, c = (x.to(kind) for x in (u, delta, a, b, c))
    # Time comes first, so that the states of a step lie together, and the channels come last, so
    # that what all states or all channels share is multiplied along a thousand numbers, not 16.
    sequences = [x.transpose(0, 1).contiguous() for x in (u, delta, b, c)]
    num = max(1, _KEPT // (u.size(1) * a.numel()))
    parts = zip(*(x.split(num, dim=1) for x in sequences), strict=True)
    rates = a.mT.contiguous()
    return torch.cat([_scan_some(rates, *part) for part in parts], dim=1).transpose(0, 1)


def _has_kernel(u: Tensor) -> bool:
    return selective_scan_fn is not None and u.is_cuda and u.dtype != torch.float64


def _scan_some(a: Tensor, u: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> Tensor:
    block, chunk = _sizes(u, a)
    length, lack = len(u), -len(u) % block
    if lack:  # Steps of length zero at the end, which nobody sees.
        u, delta, b, c = (F.pad(x, (0, 0, 0, 0, 0, lack)) for x in (u, delta, b, c))
    return _SelectiveScan.apply(u, delta, a, b, c, block, chunk)[:length]


def _sizes(u: Tensor, a: Tensor) -> tuple[int, int]:
    """The steps that are held at a time, and of these the steps that are scanned at once."""
    length = len(u)
    if u.device.type == "cpu":
        return max(1, min(length, _CACHED // (u.size(1) * a.numel()))), 1
    chunk = 1 << (length.bit_length() - 1) // 2
    return length + -length % chunk, chunk


class _SelectiveScan(torch.autograd.Function):
    """The scan of sequences :obj:`[T, B, *]` by rates :obj:`[S, D]`, a block of steps at a time."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, block: int, chunk: int
    ) -> Tensor:
        ctx.save_for_backward(u, delta, a, b, c)
        ctx.block, ctx.chunk = block, chunk
        fed, out = delta * u, torch.empty_like(u)
        last = u.new_zeros(u.size(1), *a.shape)
        for t in _blocks(u, block):
            h = _states(fed[t], delta[t], a, b[t], chunk, last)
            torch.matmul(c[t][:, :, None], h, out=out[t][:, :, None])
            last = h[-1]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, a, b, c = ctx.saved_tensors
        fed = delta * u
        d_u, d_delta, d_b, d_c = (torch.empty_like(x) for x in (u, delta, b, c))
        # The states at every step and before the first.
        h = u.new_empty(len(u) + 1, u.size(1), *a.shape)
        h[0] = 0
        for t in _blocks(u, ctx.block):
            now = h[t.start + 1 : t.stop + 1]
            _states(fed[t], delta[t], a, b[t], ctx.chunk, h[t.start], out=now)
        d_rate, passed = torch.zeros_like(a), torch.zeros_like(h[0])
        ones = a.new_ones(1, len(a))
        for t in reversed(_blocks(u, ctx.block)):
            before, now = h[t], h[t.start + 1 : t.stop + 1]
            decay = _decay(delta[t], a)
            torch.matmul(now, grad[t][..., None], out=d_c[t][..., None])
            d_h = grad[t][:, :, None] * c[t][..., None]
            d_h[-1] += passed
            # What a state passes on, it gets back from the next.
            if len(decay) > 1:
                _scan_(decay.roll(-1, dims=0), d_h, ctx.chunk, reverse=True)
            d_step = torch.matmul(b[t][:, :, None], d_h)[:, :, 0]
            torch.matmul(d_h, fed[t][..., None], out=d_b[t][..., None])
            torch.mul(d_step, delta[t], out=d_u[t])
            torch.mul(d_h, decay, out=decay)
            passed = decay[0]
            torch.mul(decay, before, out=d_h)
            torch.addcmul(torch.matmul(ones, d_h * a)[:, :, 0], d_step, u[t], out=d_delta[t])
            d_rate += d_h.mul_(delta[t][:, :, None]).sum(dim=(0, 1))
        return d_u, d_delta, d_rate, d_b, d_c, None, None


def _blocks(u: Tensor, block: int) -> list[slice]:
    return [slice(i, i + block) for i in range(0, len(u), block)]


def _decay(delta: Tensor, a: Tensor) -> Tensor:
    return (delta[:, :, None] * a).exp_()


def _states(
    fed: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    chunk: int,
    last: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """The states :obj:`[T, B, S, D]` of some steps, which follow the last state before them."""
    decay = _decay(delta, a)
    h = torch.mul(fed[:, :, None], b[..., None], out=out)
    h[0].addcmul_(decay[0], last)
    _scan_(decay, h, chunk)
    return h


def _scan_(decay: Tensor, h: Tensor, chunk: int, reverse: bool = False) -> None:
    """Turns what comes in at every step into the states, in place; uses up the factors."""
    decay, h = (x.unflatten(0, (-1, chunk)) for x in (decay, h))
    back, last = (1, 0) if reverse else (-1, -1)
    for j in _steps(chunk, reverse):
        h[:, j].addcmul_(decay[:, j], h[:, j + back])
        decay[:, j].mul_(decay[:, j + back])
    for k in _steps(len(h), reverse):
        h[k].addcmul_(decay[k], h[k + back, last])


def _steps(num: int, reverse: bool) -> range:
    return range(num - 2, -1, -1) if reverse else range(1, num)
