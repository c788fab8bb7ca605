"""The parsers of the example programs, for the option pages and the tests.

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


distill = partial(parser_of, "examples/distill.py")
segment = partial(parser_of, "examples/segment.py")
compare = partial(parser_of, "examples/compare.py")
cross_architecture = partial(parser_of, "examples/cross_architecture.py")
continual = partial(parser_of, "examples/continual.py")
cross_resolution = partial(parser_of, "examples/cross_resolution.py")
tune = partial(parser_of, "examples/tune.py")
evaluate = partial(parser_of, "examples/evaluate.py")
train_on_synthetic = partial(parser_of, "examples/train_on_synthetic.py")
