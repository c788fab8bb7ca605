"""The arguments that all readers share: their types, and their place in every reader's help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypedDict

from torch_geometric.data import Data

# The arguments of a docstring whose indentation is gone, and the beginning of each of them.
_ARGS = re.compile(r"^Args:\n((?: {4}.*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(?= {4}\w+ \()", re.MULTILINE)


class ReaderOptions(TypedDict, total=False):
    """The arguments of a reader that mean the same in all of them."""

    transform: Callable[[Data], Data] | None
    pre_transform: Callable[[Data], Data] | None
    pre_filter: Callable[[Data], bool] | None
    force_reload: bool
    strict: bool


def complete_signature(cls: type, base: type) -> inspect.Signature:
    """The signature of a reader, with each of :class:`ReaderOptions` in the place of all."""
    own = [p for p in _parameters(cls) if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(own) < len(_parameters(cls)):
        names = {parameter.name for parameter in own}
        own += [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in _parameters(base)
            if parameter.name in ReaderOptions.__annotations__ and parameter.name not in names
        ]
    return inspect.Signature(own)


def complete_arguments(doc: str, signature: inspect.Signature, base: str) -> str:
    """A docstring in whose arguments those that it leaves out are described as in the base."""
    doc, base = inspect.cleandoc(doc) + "\n", inspect.cleandoc(base) + "\n"
    listed = _ARGS.search(doc)
    if listed is None:
        return doc
    entries = _entries(base) | _entries(doc)
    text = "".join(entries[name] for name in signature.parameters if name in entries)
    return doc[: listed.start(1)] + text + doc[listed.end(1) :]


def _parameters(cls: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


def _entries(doc: str) -> dict[str, str]:
    """The descriptions of the arguments in a docstring, by name."""
    listed = _ARGS.search(doc)
    parts = _ENTRY.split(listed[1]) if listed else []
    return {part.split(maxsplit=1)[0]: part for part in parts if part}
