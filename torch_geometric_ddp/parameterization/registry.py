"""Classes by the name that a file calls them by."""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


def register(registry: dict[str, Any], cls: type) -> None:
    """Enters a class under its name.

    Raises:
        TypeError: If another class has the name, as a file would not say which of them it means.
    """
    other = registry.get(cls.__name__, cls)
    # The same place again is a cell that was run twice, or a class that a decorator rebuilt.
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"the class '{cls.__module__}.{cls.__qualname__}' must have a name of its own, as "
            f"files call it '{cls.__name__}', which is '{other.__module__}.{other.__qualname__}'"
        )
    registry[cls.__name__] = cls
