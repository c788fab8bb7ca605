"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable

from torch_geometric_ddp.methods.method import Method
from torch_geometric_ddp.methods.packed_regression import pkr
from torch_geometric_ddp.methods.published import dc, ddp, dm, sadm

__all__ = ["METHODS", "find_method"]

#: Every method that needs no more than a data set, by name. PCC is not among them: its start needs
#: the features of a trained network, see :func:`pcc`.
METHODS: dict[str, Callable[[], Method]] = {
    "ddp": ddp,
    "sadm": sadm,
    "dm": dm,
    "dc": dc,
    "pkr": pkr,
}


def find_method(method: Method | str) -> Method:
    """A method, or the one of that name with its defaults.

    Args:
        method (Method or str): The method, or one of :obj:`METHODS`.

    Raises:
        TypeError: If :obj:`method` is neither a method nor a name.
        ValueError: If it is no such name.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    if method == "pcc":
        raise ValueError(
            "'method' must not be 'pcc' by name, as PCC starts from the features of a trained "
            "network: pass the method that methods.pcc makes from them"
        )
    kind = ValueError if isinstance(method, str) else TypeError
    raise kind(f"'method' must be a Method or one of {list(METHODS)}, got {method!r}")
