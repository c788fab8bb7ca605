"""Names for what a run was made with, so that another run can tell whether it is the same."""

from __future__ import annotations

from typing import Any


def describe(make: Any) -> Any:
    """The name of a callable and what is fixed of its arguments, as JSON."""
    if hasattr(make, "func"):
        fixed = {key: str(value) for key, value in make.keywords.items()}
        return [describe(make.func), [str(value) for value in make.args], fixed]
    return getattr(make, "__name__", type(make).__name__)
