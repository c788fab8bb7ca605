"""The log of the runs of a comparison."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["RunLog"]


class RunLog:
    """One JSON line a run, with its :obj:`id`; several processes may write to one file.

    Args:
        path (path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """The lines that are there, the last one of every run; torn lines are left out."""
        known = {}
        if self.path.exists():
            for text in self.path.read_text().splitlines():
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    continue
                known[line["id"]] = line
        return known

    def append(self, line: dict[str, Any]) -> None:
        """Writes a line, and waits until the disk has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            # A line that was torn off ends here, so that it does not take this one with it.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            newline = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(newline + json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
