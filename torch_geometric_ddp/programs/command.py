"""The command ``distill3d``: finds the program, reads its options and runs it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from torch_geometric_ddp._version import __version__
from torch_geometric_ddp.programs.joining import joined

__all__ = ["PROGRAMS", "main", "parser_of", "start", "whole_parser"]

#: The programs, each a module of this package.
PROGRAMS = (
    "distill",
    "segment",
    "compare",
    "cross",
    "resolution",
    "sensitivity",
    "continual",
    "tune",
    "train",
    "evaluate",
    "show",
)
_NAME = "distill3d"
_DESCRIPTION = "Distils labelled sets of 3D point clouds, and says what the results are worth."
# What a user can get wrong. Whatever else is raised is a fault of ours, and shows its traceback.
_MISTAKES = (OSError, TypeError, ValueError, FloatingPointError, MemoryError, ImportError)


def parser_of(name: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of one program, which says of itself what its module says.

    Args:
        name (str): One of :obj:`PROGRAMS`.
        prog (str, optional): How it is started. (default: by the command)
    """
    module = _module(name)
    return _filled(argparse.ArgumentParser(prog or f"{_NAME} {name}"), module)


def start(name: str) -> None:
    """Runs one program as a file of its own, whose name the messages carry."""
    words = sys.argv[1:]
    parser = parser_of(name, sys.argv[0])
    sys.exit(_carry_out(name, parser.parse_args(words), words))


def whole_parser() -> argparse.ArgumentParser:
    """The parser of the command, with all programs."""
    more = f"'{_NAME} PROGRAM --help' says what a program takes; '{_NAME} distill' needs nothing."
    parser = argparse.ArgumentParser(_NAME, description=_DESCRIPTION, epilog=more)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    programs = parser.add_subparsers(dest="program", required=True, metavar="PROGRAM")
    for name in PROGRAMS:
        module = _module(name)
        summary = (module.__doc__ or "").partition("\n")[0]
        _filled(programs.add_parser(name, help=summary), module)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs the program that the command line names.

    Args:
        words (sequence of str, optional): The command line. (default: that of the process)

    Returns:
        The exit status.
    """
    words = sys.argv[1:] if words is None else list(words)
    args = whole_parser().parse_args(words)
    return _carry_out(args.program, args, words[1:])


def _module(name: str) -> ModuleType:
    return import_module(f"{__package__}.{name}")


def _filled(parser: argparse.ArgumentParser, module: ModuleType) -> argparse.ArgumentParser:
    parser.description, parser.epilog = module.__doc__, module.EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error came from"
    )
    return parser


def _carry_out(name: str, args: argparse.Namespace, words: Sequence[str]) -> int:
    """Runs a program, and turns what goes wrong into one line."""
    module = _module(name)
    args.words = words  # For a program that starts others like itself.
    args.command = shlex.join([_NAME, name, *words])
    try:
        from torch_geometric_ddp import memory

        memory.keep_freed_memory()
        with joined(name, module):
            module.run(args)
    except KeyboardInterrupt:
        print(f"\nStopped. {module.GO_ON.format(**vars(args))}", file=sys.stderr)
        return 130
    except _MISTAKES as error:
        if args.traceback:
            raise
        raise SystemExit(_line(error)) from None
    return 0


def _line(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return text if text else type(error).__name__
