"""Storages of a study, and how they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage, RDBStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
    JournalStorage,
)
from sqlalchemy import create_engine
from sqlalchemy.exc import (  # Optuna's own package for databases.
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)

from torch_geometric_ddp._files import check_place
from torch_geometric_ddp._version import versions
from torch_geometric_ddp.tuning.objective import DIRECTIONS

__all__ = ["OtherStudyError", "check_storage", "default_pruner", "find_storage", "open_study"]

# Seconds before a database is opened once more that could not be.
_PAUSES = (0.5, 1.0, 2.0)
# Seconds after which a gRPC proxy that does not answer is none.
_PATIENCE = 10.0
# How every line of a journal begins.
_BEGINNING = b'{"op_code":'


def check_storage(storage: Any) -> None:
    """Raises unless a study can be kept there: in a file, or where a database or proxy answers."""
    if storage is None or isinstance(storage, BaseStorage):
        return
    if str(storage).startswith("grpc://"):
        host, port = _proxy_of(str(storage))
        try:
            with closing(_open_proxy(host, port)) as proxy:
                proxy.wait_server_ready(_PATIENCE)
        except (ConnectionError, ImportError) as error:
            raise ValueError(
                f"'storage' must be a gRPC proxy that answers, got {storage}: {error}"
            ) from error
    elif "://" in str(storage):
        with _database_errors(str(storage)):
            engine = create_engine(str(storage))
            try:
                engine.connect().close()
            finally:
                engine.dispose()
    else:
        check_place("storage", storage)


def find_storage(
    storage: str | os.PathLike[str] | BaseStorage | None,
) -> tuple[Callable[[], BaseStorage], Path | None]:
    """What opens a storage, and the lock that processes on this machine share for it."""
    if storage is None:
        return InMemoryStorage, None
    if isinstance(storage, BaseStorage):
        return lambda: storage, None
    url = os.fspath(storage)
    if "://" not in url:
        # Optuna's lock is a symbolic link to the file, which is only found if it is absolute.
        path = Path(url).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".turn")
        return partial(_open_journal, path), lock
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    # Of every user, as what another one made cannot be written to.
    user = getattr(os, "getuid", lambda: 0)()  # Windows has a temporary folder for every user.
    lock = Path(tempfile.gettempdir()) / f"torch_geometric_ddp-{user}-{digest}.turn"
    if url.startswith("grpc://"):
        return partial(_open_proxy, *_proxy_of(url)), lock
    return partial(_open_database, url), lock


def _proxy_of(url: str) -> tuple[str, int]:
    """The host and the port of a gRPC proxy."""
    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"'storage' must name a host and a port, grpc://host:port, got {url}")
    return host, int(port)


def _open_proxy(host: str, port: int) -> GrpcStorageProxy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GrpcStorageProxy(host=host, port=port)


def _open_database(url: str) -> RDBStorage:
    # SQLite lets one process write at a time; the others wait.
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    with _database_errors(url):
        for pause in _PAUSES:
            try:
                return RDBStorage(url, engine_kwargs=arguments)
            except (IntegrityError, ProgrammingError):
                time.sleep(pause)  # Another machine makes the same tables at this moment.
        return RDBStorage(url, engine_kwargs=arguments)


@contextmanager
def _database_errors(url: str) -> Iterator[None]:
    """Says of what goes wrong with a database that it is the storage."""
    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        kind, reason = url.partition("://")[0], str(error).partition("\n")[0]
        raise ValueError(  # Without the rest of the URL, which may hold a password.
            f"'storage' must be the URL of a database that can be opened, got {kind}://: {reason}"
        ) from error


class _Healing:
    """The lock of a journal; whoever gets it takes away what a process left half written.

    Optuna would write its next line behind it and could never read the file again. Nobody has read
    what is taken away, for only whole lines are.

    It stands before one of Optuna's locks.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))  # type: ignore[call-arg]
        self.path = path

    def acquire(self) -> bool:
        """Waits for the lock and looks at the end of the file."""
        super().acquire()  # type: ignore[misc]
        try:
            with open(self.path, "rb+") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                if file.read(1) not in (b"", b"\n"):
                    file.truncate(_whole_lines(self.path))
        except BaseException:
            self.release()  # type: ignore[attr-defined]
            raise
        return True


class _LinkLock(_Healing, JournalFileSymlinkLock):
    """That of a link."""


class _OpenLock(_Healing, JournalFileOpenLock):
    """That of a file, where links are forbidden."""


def _lock_of(path: Path) -> _LinkLock | _OpenLock:
    """The lock of a journal that works in its folder."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            os.symlink(path, os.path.join(folder, "link"))
        except OSError:
            return _OpenLock(path)
    return _LinkLock(path)


def _whole_lines(path: Path) -> int:
    """The bytes of a journal up to a line that was torn off.

    Raises:
        ValueError: If what comes then is no beginning of a line.
    """
    *whole, torn = path.read_bytes().split(b"\n")
    start = torn.strip(b"\0")[: len(_BEGINNING)]  # A crash may leave zeros.
    if not _BEGINNING.startswith(start):
        raise _damaged(path, len(whole) + 1, "it was not written by Optuna")
    return sum(len(line) + 1 for line in whole)


def _open_journal(path: Path) -> JournalStorage:
    """The study in a file; whatever is wrong with it names the file."""
    if path.exists():
        _whole_lines(path)  # Before anything is written to a file that is something else.
        for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                _ = json.loads(text)["op_code"]
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                raise _damaged(path, number, repr(error)) from error
    try:
        return JournalStorage(JournalFileBackend(str(path), _lock_of(path)))
    except OSError:
        raise
    except Exception as error:  # Anything may come of what the lines say.
        raise _damaged(path, None, repr(error)) from error


def _damaged(path: Path, number: int | None, why: str) -> ValueError:
    where = "a line" if number is None else f"line {number}"
    return ValueError(
        f"'storage' must be the journal of a study, but {where} of '{path}' is damaged "
        f"({why:.200}): choose another file, or keep the lines before it, which are an earlier "
        "state of the study"
    )


def default_pruner(seed_by_seed: bool) -> BasePruner:
    """The median of at least five trials, or the test of scores that are paired by their seeds."""
    if not seed_by_seed:
        return MedianPruner(n_startup_trials=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return WilcoxonPruner()


class OtherStudyError(ValueError):
    """A study that was begun with other data or settings.

    Args:
        name (str): The study.
        theirs (dict): What it was begun with.
        mine (dict): What it is not.
    """

    def __init__(self, name: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
        self.name, self.theirs, self.mine = name, theirs, mine
        super().__init__(self.told())

    def told(self, options: Mapping[str, str] | None = None) -> str:
        """What is wrong, by these names of arguments, which are their own without."""
        names, theirs, mine = options or {}, self.theirs, self.mine
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        listed = ", ".join(
            f"{names.get(k, k)} ({theirs.get(k)!r}, now {mine.get(k)!r})" for k in keys
        )
        study, storage = (f"'{names.get(key, key)}'" for key in ("study_name", "storage"))
        return (
            f"the study '{self.name}' is of another search: it differs in {listed}; choose "
            f"another {study} or {storage}"
        )


def open_study(
    storage: BaseStorage,
    name: str,
    objectives: Sequence[str],
    sampler: BaseSampler,
    pruner: BasePruner,
    identity: dict[str, Any],
) -> optuna.Study:
    """Opens or makes the study, and refuses one of other data or settings."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        sampler=sampler,
        pruner=pruner,
        directions=[DIRECTIONS[objective] for objective in objectives],
    )
    mine = json.loads(json.dumps(identity))
    theirs = study.user_attrs.get("identity")
    if theirs is None:
        study.set_user_attr("identity", mine)
        study.set_user_attr("versions", versions())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(objectives))
    elif theirs != mine:
        raise OtherStudyError(name, theirs, mine)
    return study
