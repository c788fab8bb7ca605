"""Files of pictures, which are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from torch_geometric_ddp._files import check_place, replacing

__all__ = ["check_picture", "save_figure"]


def check_picture(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Returns the path of a picture, if it can be written and its suffix says how."""
    checked, known = check_place(name, path), Figure().canvas.get_supported_filetypes()
    if _format(checked) not in known:
        raise ValueError(f"'{name}' must end in one of {', '.join(sorted(known))}, got '{path}'")
    return checked


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure to a path that :meth:`check_picture` gave, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=_format(path), dpi=dpi)


def _format(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")
