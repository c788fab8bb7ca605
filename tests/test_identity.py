"""Descriptions of callables and settings: alike where these are alike, and only there."""

import functools
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TinyNet
from torch import nn

from torch_geometric_ddp import Protocol, ops
from torch_geometric_ddp._identity import describe, settings_of
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.nn import PointNetSegmentation


def capture(value):
    return lambda num: num * value


def nested(value):
    def inner(num):
        return capture(value)(num)

    return inner


def wrapped(value):
    @functools.wraps(capture)
    def wrapper(num):
        return value * capture(num)

    return wrapper


def wrapped_otherwise(value):
    @functools.wraps(capture)
    def wrapper(num):
        return value + capture(num)

    return wrapper


def recursive():
    def countdown(num):
        return countdown(num - 1) if num else 0

    return countdown


class Holder:
    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Placed:
    __slots__ = ()

    def __repr__(self):
        return f"<placed at {id(self):#x}>"


class SlottedTold(Slotted):
    __slots__ = ()

    def config(self):
        return {"value": self.value}

    def __repr__(self):
        return "slotted"


@dataclass(frozen=True)
class Setting:
    width: float
    names: tuple[str, ...] = ("a",)


class Scale(nn.Module):
    def __init__(self, value, hidden=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(value)]))
        self.register_buffer("hidden", torch.tensor(hidden), persistent=False)


# Pairs of values that differ in what they do, and functions that make each anew.
DIFFERENT = {
    "number": (lambda: 1, lambda: 2),
    "float": (lambda: 0.1, lambda: float("nan")),
    "text": (lambda: "a", lambda: "b"),
    "list": (lambda: [1, 2], lambda: [2, 1]),
    "dict": (lambda: {"a": 1}, lambda: {"a": 2}),
    "tensor": (lambda: torch.zeros(2), lambda: torch.ones(2)),
    "type": (lambda: torch.zeros(2), lambda: torch.zeros(2).double()),
    "shape": (lambda: torch.zeros(2), lambda: torch.zeros(2, 1)),
    "scalar": (lambda: torch.tensor(1.0), lambda: torch.tensor(2.0)),
    "array": (lambda: np.zeros(3), lambda: np.ones(3)),
    "class": (lambda: TinyNet, lambda: Holder),
    "function": (lambda: capture, lambda: nested),
    "builtin": (lambda: torch.relu, lambda: torch.tanh),
    "keyword": (
        lambda: functools.partial(PointNetSegmentation, width=0.25),
        lambda: functools.partial(PointNetSegmentation, width=1.0),
    ),
    "argument": (
        lambda: functools.partial(capture, torch.zeros(2)),
        lambda: functools.partial(capture, torch.ones(2)),
    ),
    "nested partial": (
        lambda: functools.partial(capture, value=functools.partial(capture, 1)),
        lambda: functools.partial(capture, value=functools.partial(capture, 2)),
    ),
    "callable argument": (
        lambda: functools.partial(nested, value=capture),
        lambda: functools.partial(nested, value=nested),
    ),
    "code": (lambda: lambda num: num + 1, lambda: lambda num: num + 2),
    "name in the code": (lambda: lambda num: torch.relu(num), lambda: lambda num: torch.tanh(num)),
    "captured": (lambda: capture(1), lambda: capture(2)),
    "captured deeper": (lambda: nested(1), lambda: nested(2)),
    "default": (lambda: lambda num, width=1: num, lambda: lambda num, width=2: num),
    "keyword default": (lambda: lambda *, width=1: width, lambda: lambda *, width=2: width),
    "wrapped": (lambda: wrapped(1), lambda: wrapped(2)),
    "wrapped code": (lambda: wrapped(1), lambda: wrapped_otherwise(1)),
    "object": (lambda: Holder(1), lambda: Holder(2)),
    "generator": (
        lambda: Holder(np.random.default_rng(0)),
        lambda: Holder(np.random.default_rng(1)),
    ),
    "generator of torch": (
        lambda: torch.Generator().manual_seed(0),
        lambda: torch.Generator().manual_seed(1),
    ),
    "generator of Python": (lambda: random.Random(0), lambda: random.Random(1)),
    "old generator of NumPy": (lambda: np.random.RandomState(0), lambda: np.random.RandomState(1)),
    "slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "slots that tell": (lambda: SlottedTold(1), lambda: SlottedTold(2)),
    "cached function": (
        lambda: functools.lru_cache(capture(1)),
        lambda: functools.lru_cache(capture(2)),
    ),
    "method that is built in": (lambda: [1].count, lambda: [2].count),
    "type of a key": (lambda: {1: "a"}, lambda: {"1": "a"}),
    "method": (lambda: Holder(1).method, lambda: Holder(2).method),
    "dataclass": (lambda: Setting(1.0), lambda: Setting(2.0)),
    "to_dict": (lambda: Protocol("a", epochs=1), lambda: Protocol("a", epochs=2)),
    "parameter": (lambda: Scale(1), lambda: Scale(2)),
    "buffer": (lambda: Scale(1, 1.0), lambda: Scale(1, 2.0)),
    "submodule": (lambda: nn.Sequential(Scale(1)), lambda: nn.Sequential(Scale(2))),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_alike_where_made_anew_and_different_where_it_matters(name):
    first, second = DIFFERENT[name]
    assert describe(first()) == describe(first())
    assert describe(first()) != describe(second())
    for value in (describe(first()), describe(second())):
        assert json.loads(json.dumps(value)) == value


def test_names():
    assert describe(PointNetSegmentation) == "PointNetSegmentation"
    assert describe(ops.morph) == "morph"
    assert describe(TinyNet) == "helpers.TinyNet"
    assert describe(functools.partial(PointNetSegmentation, width=0.25)) == {
        "partial": "PointNetSegmentation",
        "keywords": {"width": 0.25},
    }
    space = PartSpace(("seat", "leg"), ((0, 1),))
    assert describe(space) == {"object": "PartSpace", "settings": space.to_dict()}


def test_sets_have_one_order():
    assert describe({"b", "a", "c"}) == ["a", "b", "c"]


def test_what_holds_itself():
    one = Holder(1)
    one.value = [one]
    assert json.dumps(describe(one))
    assert describe(recursive()) == describe(recursive())


def test_what_says_only_where_it_lies():
    assert describe(torch.Generator()) == describe(torch.Generator())
    assert describe(object()) == "object"
    assert describe(Placed()).endswith("Placed <placed>")
    assert describe(torch.float16) != describe(torch.float32)


def test_settings_of_a_module_are_what_it_holds_itself():
    module = Scale(1)
    module.factor = 2.0
    assert settings_of(module) == {
        "factor": 2.0,
        "weight": describe(torch.tensor([1.0])),
        "hidden": describe(torch.tensor(1.0)),
    }


def test_another_process_says_the_same():
    code = (
        "import json, sys, test_identity as t; "
        "from torch_geometric_ddp._identity import describe; "
        "print(json.dumps({k: [describe(f()) for f in v] for k, v in t.DIFFERENT.items()}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    ours = {key: [describe(make()) for make in pair] for key, pair in DIFFERENT.items()}
    assert json.loads(told.stdout) == json.loads(json.dumps(ours))
