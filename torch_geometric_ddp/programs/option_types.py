"""The types of options: numbers, networks and rows, checked as the parser reads them."""

from __future__ import annotations

import argparse
import ast
import math
from fractions import Fraction
from typing import Any

from torch_geometric_ddp.programs import names

__all__ = [
    "above_zero",
    "finite",
    "natural",
    "network_name",
    "network_or_all",
    "positive",
    "row_and_settings",
    "row_name",
    "row_or_all",
    "share",
]


def positive(text: str) -> int:
    """The type of an option that is a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def natural(text: str) -> int:
    """The type of an option that is a whole number of at least zero."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def share(text: str) -> float:
    """The type of an option that is a storage in clouds per class, also in parts such as 1/16."""
    try:
        value = float(Fraction(text))
    except (ValueError, ArithmeticError):
        value = math.nan
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, or as 1/16, got {text!r}")
    return int(value) if value == int(value) else value


def finite(text: str) -> float:
    """The type of an option that is a number of any size, such as a learning rate."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {value:g}")
    return value


def above_zero(text: str) -> float:
    """The type of an option that is a number above zero, such as the rate of a training."""
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value:g}")
    return value


def network_name(text: str) -> str:
    """The type of an option that is the name of a network of any task."""
    known = {name: None for networks in names.NETWORKS.values() for name in networks}
    if text not in known:
        listed = ", ".join(known)
        raise argparse.ArgumentTypeError(f"must be one of {listed}, got {text!r}")
    return text


def network_or_all(text: str) -> str:
    """The type of an option that is such a name, or stands for all of a task."""
    return text if text == "all" else network_name(text)


def row_name(text: str) -> str:
    """The type of an option that is the name of a row.

    After the name of a method, settings of it may stand in brackets.
    """
    try:
        name, _ = row_and_settings(text)
    except SyntaxError:
        raise argparse.ArgumentTypeError(
            f"settings must be as in 'DDP(num_morphs=4)', got {text!r}"
        ) from None
    if name not in names.ROWS:
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r} (--help says which there are)")
    return text


def row_or_all(text: str) -> str:
    """The type of an option that is such a name, or stands for all methods."""
    return text if text == "all" else row_name(text)


def row_and_settings(text: str) -> tuple[str, dict[str, Any]]:
    """The name of a row, and the settings that stand in brackets after it.

    Raises:
        SyntaxError: If what stands in brackets is no list of names with values.
    """
    name, bracket, rest = text.partition("(")
    if not bracket:
        return text, {}
    # Read as a call is, and never carried out.
    call = ast.parse(f"f({rest}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise SyntaxError
    settings = {_key(word): _literal(word.value) for word in call.keywords}
    if len(settings) < len(call.keywords):
        raise SyntaxError
    return name.rstrip(), settings


def _key(word: ast.keyword) -> str:
    if word.arg is None:
        raise SyntaxError
    return word.arg


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise SyntaxError from None
