"""Reading: what a file holds of a parameterization, checked."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_int, check_json
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.parameterization.codecs import Codec, float_codec
from torch_geometric_ddp.parameterization.form import Form, read

__all__ = ["arguments", "check_header", "check_no_more", "check_sizes", "missing", "read_all"]

# What a header holds beside the sizes of a parameterization.
_OWN_KEYS = ("codecs", "shapes", "parts", "class_groups")


@dataclass(frozen=True)
class Found:
    """A tensor of a file as it is optimised, and the codec that it was stored by."""

    tensor: Tensor
    codec: Codec


def check_sizes(cls: type, sizes: Mapping[str, Any]) -> None:
    """Refuses the sizes of a parameterization that a header cannot hold.

    Raises:
        TypeError: If one is not what JSON can hold.
        ValueError: If one is called like what a header holds beside them.
    """
    for name, size in sizes.items():
        if name in _OWN_KEYS:
            raise ValueError(
                f"'{cls.__name__}.sizes' must not have names that a file holds beside them, which "
                f"are {list(_OWN_KEYS)}, got '{name}'"
            )
        check_json(f"{cls.__name__}.sizes.{name}", size)


def read_all(
    storage: Mapping[str, Tensor], config: Mapping[str, Any], forms: Mapping[str, Form], groups: int
) -> dict[str, Found]:
    """The tensors that a file holds, by the names that they are kept by.

    Args:
        storage (dict of torch.Tensor): The tensors of the file.
        config (dict): Its header, with the codecs and shapes of what is no plain numbers.
        forms (dict of Form): The forms of the tensors that it may hold.
        groups (int): The size of the first dimension.

    Raises:
        TypeError, ValueError: If anything does not fit.
    """
    found = {}
    for name, form in forms.items():
        stored = {
            key[len(name) + 1 :]: tensor
            for key, tensor in storage.items()
            if key.partition(".")[0] == name
        }
        if stored:
            codec, tensor = _decoded(name, stored, config, groups)
            found[name] = Found(read(tensor, codec, form), codec)
    return found


def arguments(
    cls: type,
    num_classes: int,
    found: Mapping[str, Found],
    storage: Mapping[str, Tensor],
    config: Mapping[str, Any],
    names: Collection[str],
) -> dict[str, Any]:
    """What the constructor of a parameterization is given for a file.

    Args:
        cls (type): The parameterization.
        num_classes (int): The number of classes.
        found (dict of Found): What :func:`read_all` gave.
        storage (dict of torch.Tensor): The tensors of the file.
        config (dict): Its header.
        names (collection of str): The names of the tensors that it may hold.

    Raises:
        ValueError: If a tensor or a size is missing.
    """
    sizes = {key: value for key, value in config.items() if key not in _OWN_KEYS}
    tensors = {name: one.tensor for name, one in found.items()}
    known = {**sizes, **tensors, "num_classes": num_classes}
    out = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in known:
            out[name] = known[name]
        elif parameter.default is parameter.empty and name in names:
            raise missing(name, storage)
        elif parameter.default is parameter.empty:
            raise ValueError(f"the size '{name}' is missing, there is {sorted(sizes)}")
    return out


def missing(name: str, storage: Mapping[str, Tensor]) -> ValueError:
    """What is raised where a file lacks a tensor."""
    return ValueError(f"the tensor '{name}' is missing, there is {sorted(storage)}")


def check_no_more(storage: Mapping[str, Tensor], known: Collection[str], cls: type) -> None:
    """Refuses tensors that a parameterization does not store."""
    unknown = sorted(key for key in storage if key.partition(".")[0] not in known)
    if unknown:
        raise ValueError(
            f"the tensors {unknown} are none of the {sorted(known)} of a {cls.__name__}"
        )


def check_header(config: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses a header other than that of what was read by it."""
    wrong = [key for key in config if _text(config[key]) != _text(now.get(key))]
    if wrong:
        listed = ", ".join(f"'{k}'={config[k]!r} (not {now.get(k)!r})" for k in wrong)
        raise ValueError(f"the header must agree with the tensors, but it says {listed}")


def _text(value: Any) -> str:
    """A value as a file has it, in which a tuple is a list."""
    return json.dumps(value, sort_keys=True)


def _decoded(
    name: str, stored: Mapping[str, Tensor], config: Mapping[str, Any], groups: int
) -> tuple[Codec, Tensor]:
    """The codec and what it decodes, with everything checked that a codec need not know."""
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
    expected = _types(codec.encode(torch.zeros(shape)))
    if expected != _types(stored):
        raise ValueError(f"the tensor '{name}' must be {expected} as {codec}, got {_types(stored)}")


def _types(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: f"{tensor.dtype} {list(tensor.shape)}" for key, tensor in tensors.items()}
