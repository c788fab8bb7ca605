"""The parsers of the programs, for the option pages and the tests.

A page asks for them when it is built, so that it cannot go stale.
"""

from __future__ import annotations

import runpy
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from torch_geometric_ddp.programs import command

ROOT = Path(__file__).resolve().parent.parent


class _CaughtError(Exception):
    """Carries a parser out of a program."""

    def __init__(self, parser: ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(path: str) -> ArgumentParser:
    """The parser of a program, which runs until it is about to read its command line.

    Args:
        path (str): The program, from the root of the repository.

    Raises:
        ValueError: If the program ends without reading its command line.
    """

    def stop(self: ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        raise _CaughtError(self)

    folder = str((ROOT / path).parent)
    with patch.object(ArgumentParser, "parse_args", stop), patch.object(sys, "path", sys.path[:]):
        sys.path.insert(0, folder)  # Programs import what lies beside them.
        try:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        except _CaughtError as caught:
            return caught.parser
    raise ValueError(f"{path} ends without reading its command line")


distill = partial(command.parser_of, "distill")
segment = partial(command.parser_of, "segment")
compare = partial(command.parser_of, "compare")
cross = partial(command.parser_of, "cross")
resolution = partial(command.parser_of, "resolution")
sensitivity = partial(command.parser_of, "sensitivity")
continual = partial(command.parser_of, "continual")
tune = partial(command.parser_of, "tune")
train = partial(command.parser_of, "train")
evaluate = partial(command.parser_of, "evaluate")
show = partial(command.parser_of, "show")
train_on_synthetic = partial(parser_of, "examples/train_on_synthetic.py")
