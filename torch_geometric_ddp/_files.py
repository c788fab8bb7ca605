"""Files that are whole or not there, also of tensors with a JSON header, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torch_geometric_ddp._bytes import bytes_of
from torch_geometric_ddp._checks import shown

if sys.platform != "win32":
    import fcntl

_KEY = "torch_geometric_ddp"
# Letters of a file that its temporary one begins with: a name has no more than 255 bytes.
_LETTERS = 32


def check_place(name: str, value: Any) -> Path:
    """Returns the path of a file that shall be written, if it can be."""
    return _check(name, value, "a file that can be written")


def check_folder(name: str, value: Any) -> Path:
    """Returns the path of a folder into which files shall be written, if they can be."""
    return _check(name, value, "a folder that can be written to", inside="any")


def _check(name: str, value: Any, what: str, inside: str = "") -> Path:
    """Returns a path, if it or a file of that name in it can be written."""
    if isinstance(value, bytes) or not isinstance(value, str | os.PathLike):
        raise TypeError(f"'{name}' must be a path, got {shown(value)}")
    path = Path(value)
    try:
        if inside and path.is_file():
            raise NotADirectoryError("it is a file")
        file = _file_of(path / inside)
        # Its folder is made when it is written, so that a refusal leaves none behind.
        nearest = next(folder for folder in file.parents if folder.exists())
        tempfile.TemporaryFile(dir=nearest, suffix=".part").close()
    except (OSError, ValueError) as error:
        raise ValueError(f"'{name}' must be {what}, got '{path}': {error}") from error
    return path


def _file_of(path: str | os.PathLike[str]) -> Path:
    """The file that a path leads to through any links, whether it is there or not.

    Raises:
        OSError: If it is something else than a file, or no file can be there.
    """
    file = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        mode = os.stat(file).st_mode  # Raises of a name that no file can have.
        if stat.S_ISDIR(mode):
            raise IsADirectoryError("it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError("it is there and no regular file")
    return file


@contextmanager
def turn(path: Path | None) -> Iterator[None]:
    """Holds a lock between processes, which the system frees when its holder dies.

    Args:
        path (Path, optional): The file of the lock, or a folder that is there. (default: no lock,
            as on Windows)
    """
    if path is None or sys.platform == "win32":
        yield
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside another one, which takes its place if it is written without an error.

    Links stay and lead to the new file, which has the permissions of the old one.

    Raises:
        OSError: If what is there is something else than a file, or none can be written, also by
            safetensors, whose errors are none.
    """
    file = _file_of(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name[:_LETTERS]}{secrets.token_hex(8)}.part")
    temporary.touch(exist_ok=False)
    try:
        # Without an old one those that any new file has; private until it is whole.
        mode = stat.S_IMODE((file if file.exists() else temporary).stat().st_mode)
        os.chmod(temporary, 0o600)
        try:
            yield temporary
        except SafetensorError as error:
            raise OSError(f"'{path}' could not be written: {error}") from error
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):  # It has taken its place, or its folder is gone.
            os.unlink(temporary)
        raise


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    kind: str,
    version: int,
) -> None:
    """Writes a file that is either whole or not there, with a digest of all that it holds."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps({"kind": kind, "version": version, **header}, sort_keys=True)
    # One entry, because safetensors writes several in any order: the same set is the same file.
    metadata = {_KEY: f"{_digest(text, tensors)} {text}"}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_tensors(
    path: str | os.PathLike[str], kind: str, version: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file that :meth:`write_tensors` wrote.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is truncated or tampered with, of another kind or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"'path' must be an existing file, there is none at '{path}'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"'{path}' is truncated or no safetensors file: {error}") from error
    if _KEY not in metadata:
        raise ValueError(f"'{path}' was not written by torch_geometric_ddp: it has no header")
    try:
        digest, text = metadata[_KEY].split(" ", 1)
        header = json.loads(text)
        found, found_kind = header["version"], header["kind"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"'{path}' is damaged: its header is unreadable ({error!r})") from error
    if found_kind == kind and isinstance(found, int) and found > version:
        raise ValueError(
            f"'{path}' has format version {found}, this torch_geometric_ddp reads up to "
            f"{version}: upgrade the package to read it"
        )
    if digest != _digest(text, tensors):
        raise ValueError(f"'{path}' is damaged: its contents do not match their checksum")
    if found_kind != kind:
        raise ValueError(f"'{path}' must hold a {kind}, it holds a {found_kind}")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(f"'{path}' must have a format version from 1 to {version}, got {found!r}")
    return tensors, header


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
