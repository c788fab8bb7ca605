"""Tensors of a file, checked against what their codecs write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.parameterization.codecs import Codec, float_codec

__all__ = ["decoded"]


def decoded(
    name: str, stored: Mapping[str, Tensor], config: Mapping[str, Any], groups: int
) -> tuple[Codec, Tensor]:
    """The codec and the tensor of a file, with everything checked that a codec need not know.

    Args:
        name (str): The name that the tensor is kept by.
        stored (dict of torch.Tensor): What its codec wrote.
        config (dict): The header, with the codecs and shapes of what is no plain numbers.
        groups (int): The size of the first dimension.

    Raises:
        TypeError, ValueError: If anything does not fit.
    """
    codecs, shapes = config.get("codecs", {}), config.get("shapes", {})
    if name in codecs:
        if name not in shapes:
            raise ValueError(f"the shape of the tensor '{name}' is missing")
        codec = Codec.from_config(codecs[name])
        shape = (groups, *(check_int("shapes", size, minimum=0) for size in shapes[name]))
    else:
        # Numbers that are written as they are say their shape themselves.
        tensor = stored.get("", torch.empty(0, dtype=torch.uint8))
        if tensor.dim() == 0 or len(tensor) != groups or not tensor.is_floating_point():
            raise ValueError(
                f"the tensor '{name}' must be floating point of shape [{groups}, ...], got "
                f"{tensor.dtype} of shape {list(tensor.shape)}"
            )
        codec, shape = float_codec(tensor.dtype), tuple(tensor.shape)
    try:
        _check_stored(name, stored, codec, shape)
        tensor = codec.decode(stored, shape)
    except (ArithmeticError, LookupError, RuntimeError) as error:
        # What a codec does with tensors that it did not write is anyone's guess.
        raise ValueError(f"the tensor '{name}' is not what {codec} writes: {error!r}") from error
    if tensor.shape != shape or not tensor.is_floating_point():
        raise ValueError(
            f"the tensor '{name}' must be floating point of shape {list(shape)}, {codec} gave "
            f"{tensor.dtype} of shape {list(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"the tensor '{name}' must be finite, but holds NaN or infinite values")
    return codec, tensor


def _check_stored(
    name: str, stored: Mapping[str, Tensor], codec: Codec, shape: tuple[int, ...]
) -> None:
    """Holds what is stored against what the codec writes of zeros, if its size is always that."""
    bits, found = codec.bits(shape), tensor_bits(stored)
    if bits is None:
        return
    if bits != found:  # Before zeros of a shape are made that no memory holds.
        raise ValueError(
            f"the tensor '{name}' must be {bits} bits to be of shape {list(shape)} as {codec}, got "
            f"{found}"
        )
    expected = _layout(codec.encode(torch.zeros(shape)))
    if expected != _layout(stored):
        raise ValueError(
            f"the tensor '{name}' must be {expected} as {codec}, got {_layout(stored)}"
        )


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: f"{tensor.dtype} {list(tensor.shape)}" for key, tensor in tensors.items()}
