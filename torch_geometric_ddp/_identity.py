"""Identities: what a callable or a setting is, as JSON, so that one run is told from another."""

from __future__ import annotations

import functools
import hashlib
import math
import random
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_geometric_ddp._bytes import bytes_of

__all__ = ["describe", "describe_code", "is_ours", "settings_of"]

_PACKAGE = __name__.split(".")[0]
# What every torch.nn.Module has, and what therefore says nothing about a module.
_OF_MODULES = frozenset(vars(nn.Module()))
# Slots that say nothing of an object.
_NO_SETTINGS = frozenset({"__dict__", "__weakref__"})
# How random generators tell what they will draw.
_GENERATORS: dict[type, Callable[[Any], Any]] = {
    np.random.Generator: lambda generator: generator.bit_generator.state,
    np.random.RandomState: lambda generator: generator.get_state(),
    random.Random: lambda generator: generator.getstate(),
    torch.Generator: lambda generator: generator.get_state(),
}


def describe(value: Any) -> Any:
    r"""Says what a value is, as JSON: what differs in effect differs in what is said.

    The same code and the same settings give the same description in every process.

    ============================== =================================================================
    value                          description
    ============================== =================================================================
    number, text, :obj:`None`      itself; numbers that JSON lacks as text
    tensor, array                  type, shape and a digest of the values
    sequence, set, mapping         the same of descriptions, sets in a fixed order
    class, function                its name, with its module if that is not of this package
    dressed function               the same of what it dresses, such as a cache
    lambda, function in a function its name, a digest of its code, its defaults and what it captures
    :obj:`functools.partial`       the function, its arguments and its keywords
    bound method                   the function and the object
    generator of random numbers    its state
    other object                   its class and its :meth:`to_dict`, its :meth:`config`, or all of
                                   its attributes and slots
    ============================== =================================================================

    An attribute of an object that changes as it is used, such as a counter, changes what is said:
    describe it before.

    Args:
        value (object): What to describe.

    Returns:
        What :func:`json.dumps` takes, the same before and after a file.

    .. code-block:: python

        describe(functools.partial(PointNetSegmentation, width=0.25))
        # {'partial': 'PointNetSegmentation', 'keywords': {'width': 0.25}}
    """
    return _describe(value, ())


def describe_code(function: types.FunctionType) -> dict[str, Any]:
    """Describes a function by what it does, also where its name would tell it from others.

    What it calls is told by name.
    """
    return _described_code(function, (id(function),))


def is_ours(value: object) -> bool:
    """Whether a callable is of this package, which tells what it does elsewhere."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == _PACKAGE


def settings_of(owner: object) -> dict[str, Any]:
    """All attributes of an object by name, described.

    Of a :class:`torch.nn.Module` these are also its parameters, buffers and modules.
    """
    return _settings(owner, (id(owner),))


def _describe(value: Any, inside: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return _describe(value.item(), inside)
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        shape = "x".join(map(str, value.shape))
        return {"array": f"{value.dtype} {shape}", "sha256": _digest(value.tobytes())}
    if id(value) in inside:  # A function that calls itself, or an object that holds itself.
        return {"again": len(inside) - inside.index(id(value))}
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return {_key(key): _describe(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item, inside) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_describe(item, inside) for item in value), key=repr)
    return _described_callable(value, inside)


def _described_callable(value: Any, inside: tuple[int, ...]) -> Any:
    if isinstance(value, functools.partial):
        return {
            "partial": _describe(value.func, inside),
            **_unless_empty("arguments", _describe(value.args, inside)),
            **_unless_empty("keywords", _describe(value.keywords, inside)),
        }
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": _describe(value.__self__, inside)}
    if isinstance(value, types.BuiltinMethodType) and not isinstance(
        value.__self__, type | types.ModuleType | None
    ):
        return {"method": value.__name__, "of": _describe(value.__self__, inside)}
    # What functools.wraps dresses up has the name of another function, but not its code.
    if isinstance(value, types.FunctionType) and "<" in (
        value.__qualname__ + value.__code__.co_qualname
    ):
        return _described_code(value, inside)
    if isinstance(value, type | types.FunctionType):
        return _name(value)
    if callable(getattr(value, "__wrapped__", None)):  # Say that of functools.lru_cache.
        return {"object": _name(type(value)), "of": _describe(value.__wrapped__, inside)}
    if hasattr(value, "__qualname__"):
        return _name(value)
    return _described_object(value, inside)


def _described_code(value: types.FunctionType, inside: tuple[int, ...]) -> dict[str, Any]:
    variables = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    captured = {name: _describe(_content(cell), inside) for name, cell in variables}
    defaults = [*(value.__defaults__ or ()), value.__kwdefaults__ or {}]
    return {
        "function": _name(value),
        "code": _digest(repr(_code(value.__code__)).encode()),
        **_unless_empty("defaults", [d for d in _describe(defaults, inside) if d != {}]),
        **_unless_empty("captured", captured),
    }


def _described_object(value: Any, inside: tuple[int, ...]) -> Any:
    for kind, state in _GENERATORS.items():
        if isinstance(value, kind):
            return {"object": _name(type(value)), "settings": _describe(state(value), inside)}
    told = None if isinstance(value, nn.Module) else _told(value)
    if told is None and not hasattr(value, "__dict__"):
        # Slots may be a memory, as those of a path: what says more of itself is asked for that.
        if repr(value) != object.__repr__(value):
            return f"{_name(type(value))} {re.sub(r' at 0x[0-9A-Fa-f]+', '', repr(value))}"
        if not _slots(value):
            return _name(type(value))
    settings = _settings(value, inside) if told is None else _describe(told, inside)
    return {"object": _name(type(value)), **_unless_empty("settings", settings)}


def _told(value: Any) -> Any:
    """What an object says of itself, if it does."""
    for name in ("to_dict", "config"):
        if callable(getattr(value, name, None)):
            return getattr(value, name)()
    return None


def _settings(owner: object, inside: tuple[int, ...]) -> dict[str, Any]:
    own = _slots(owner) | getattr(owner, "__dict__", {})
    if isinstance(owner, nn.Module):
        own = {key: value for key, value in own.items() if key not in _OF_MODULES}
        own.update(owner.named_parameters(recurse=False))
        own.update(owner.named_buffers(recurse=False))
        own.update(owner.named_children())
    return {key: _describe(value, inside) for key, value in own.items()}


def _slots(owner: object) -> dict[str, Any]:
    """What the slots of an object hold that its classes name."""
    named = (getattr(cls, "__slots__", ()) for cls in type(owner).__mro__)
    names = [n for some in named for n in ([some] if isinstance(some, str) else some)]
    return {n: getattr(owner, n) for n in names if hasattr(owner, n) and n not in _NO_SETTINGS}


def _key(key: Any) -> str:
    """The name of a key, which tells 1 from "1"."""
    return key if isinstance(key, str) else f"{_name(type(key))} {key}"


def _name(value: Any) -> str:
    """The name of a class or function, with its module if it is not of this package."""
    module = str(getattr(value, "__module__", None) or "builtins")
    short = module == "builtins" or module.split(".")[0] == _PACKAGE
    # A process that another one spawns calls the program so.
    module = "__main__" if module == "__mp_main__" else module
    return value.__qualname__ if short else f"{module}.{value.__qualname__}"


def _code(code: types.CodeType) -> list[Any]:
    """What a function does, without where it was written."""
    constants = [
        _code(constant) if isinstance(constant, types.CodeType) else _describe(constant, ())
        for constant in code.co_consts
    ]
    return [code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Not assigned yet.
        return None


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = "x".join(map(str, tensor.shape))
    return {"tensor": f"{tensor.dtype} {shape}", "sha256": _digest(bytes_of(tensor))}


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _unless_empty(key: str, value: Iterable[Any]) -> dict[str, Any]:
    return {key: value} if value else {}
