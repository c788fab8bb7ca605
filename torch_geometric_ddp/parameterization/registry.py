"""Classes by the name that a file calls them by."""

from __future__ import annotations

from typing import Any

__all__ = ["UnknownClassError", "class_named", "register"]


class UnknownClassError(ValueError):
    """A file tells a class that nothing has defined here."""


def class_named(registry: dict[str, Any], what: str, name: Any) -> Any:
    """The class of a name.

    Args:
        registry (dict): The classes that there are.
        what (str): What the name is called in an error.
        name (str): The name.

    Raises:
        UnknownClassError: If there is no class of that name.
        ValueError: If it is no name.
    """
    if name in registry:
        return registry[name]
    wrong = f"'{what}' must be one of {sorted(registry)}, got {name!r:.80}"
    if isinstance(name, str):
        raise UnknownClassError(f"{wrong}: import the module that defines it")
    raise ValueError(wrong)


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
