"""Names of classes: those that a data set gives, and those that lie in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    "MOST_UNNAMED",
    "agree",
    "check_among",
    "found_names",
    "joined_names",
    "known_names",
    "names_of",
    "numbered_names",
]

#: The most classes that nothing names: a label beyond is an identifier, and no number of a class.
MOST_UNNAMED = 2**16


def _given(dataset: Any) -> Any:
    return getattr(dataset, "class_names", None)


def names_of(dataset: Any, look: Callable[[Any], Any] = _given) -> Any:
    """The names of the classes of a data set, or of those that it was made from.

    A :class:`torch.utils.data.Subset`, as :obj:`random_split` makes it, knows its data set, and a
    :class:`torch.utils.data.ConcatDataset` all of them; either may hold others.

    Args:
        dataset (Dataset): The data set.
        look (callable): Gives the names of a single data set, or :obj:`None`. (default: its
            attribute :obj:`class_names`)

    Raises:
        ValueError: If several data sets have other names.
    """
    names = look(dataset)
    if names is not None or isinstance(dataset, list | tuple):
        return names
    parts = [part for part in (getattr(dataset, "dataset", None),) if part is not None]
    parts += getattr(dataset, "datasets", None) or []
    found = [names for names in (names_of(part, look) for part in parts) if names is not None]
    for other in found[1:]:
        if [*other] != [*found[0]]:
            raise ValueError(
                f"'class_names' must be the same in all parts of the data set, got {[*found[0]]} "
                f"and {[*other]}"
            )
    return found[0] if found else None


def found_names(dataset: Any, count: int) -> list[str] | None:
    """The names of :obj:`count` classes of a data set of PyG that has a folder for each of them.

    :class:`torch_geometric.datasets.ModelNet` and others number the sorted folders of
    :obj:`root/raw`, each of which has a folder :obj:`train` and a folder :obj:`test`. Where these
    are gone they are the :obj:`raw_file_names`, if these are names of folders and not of files.
    What is found that way neither adds classes nor refuses labels.

    Args:
        dataset (Dataset): The data set, or one that was made from it.
        count (int): The number of classes that its labels tell.
    """
    try:
        names = names_of(dataset, _folders) or []
    except ValueError:  # Parts that were joined have others.
        return None
    return names[:count] if len(names) >= count else None


def _folders(dataset: Any) -> list[str] | None:
    """The names of the folders of a single data set, if they are those of its classes."""
    root, listed = getattr(dataset, "root", None), None
    with suppress(AttributeError, NotImplementedError):  # PyG has it of every data set, and raises.
        listed = dataset.raw_file_names
    if not isinstance(root, str | os.PathLike) or listed is None:
        return None
    folders = sorted(path for path in Path(root, "raw").glob("*") if path.is_dir())
    if folders:
        split = all((path / "train").is_dir() and (path / "test").is_dir() for path in folders)
        return [path.name for path in folders] if split else None
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        return None
    plain = all(name and not set(name) & {".", "/", os.sep} for name in listed)
    return sorted(listed) if plain and listed else None


def numbered_names(labels: list[int], count: int) -> list[str]:
    """The names of classes that nothing names."""
    if count > MOST_UNNAMED:
        raise ValueError(
            f"labels must lie in 0..{MOST_UNNAMED - 1} where nothing names the classes, got "
            f"{min(labels)}..{max(labels)}: number the classes from 0"
        )
    return [str(i) for i in range(count)]


def joined_names(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """The names of two sets that :func:`agree`: those of one go before the numbers of the other."""
    longer, shorter = sorted((names, others), key=len, reverse=True)
    first = [b if a == str(i) else a for i, (a, b) in enumerate(zip(longer, shorter, strict=False))]
    return [*first, *longer[len(first) :]]


def known_names(names: Sequence[str]) -> list[str]:
    """The names, if classes are called by them and not by their numbers."""
    return [] if all(name == str(i) for i, name in enumerate(names)) else [*names]


def agree(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two sets may have the same classes: one may lack the last ones.

    Classes without names are called by their numbers, which go with any word, but not with another
    number.
    """
    pairs = enumerate(zip(names, others, strict=False))
    return all(
        a == b or (str(i) in (a, b) and not (a.isdecimal() and b.isdecimal()))
        for i, (a, b) in pairs
    )


def check_among(name: str, names: Sequence[str], others: Sequence[str]) -> None:
    """Raises unless the classes of a data set are the first, or all, of some others.

    Args:
        name (str): What the data set is called in the error.
        names (sequence of str): The names of its classes.
        others (sequence of str): The names of those that it is shown beside.

    Raises:
        ValueError: If there are more of them, or one has another name.
    """
    if len(names) > len(others) or not agree(names, others):
        raise ValueError(f"'{name}' must have the classes {[*others]}, got {[*names]}")
