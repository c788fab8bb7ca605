"""Storages of a study, and how they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage

from torch_geometric_ddp._version import versions
from torch_geometric_ddp.tuning.objective import DIRECTIONS

__all__ = ["find_storage", "open_study"]


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
        return lambda: JournalStorage(JournalFileBackend(str(path))), lock
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    lock = Path(tempfile.gettempdir()) / f"torch_geometric_ddp-{digest}.turn"
    if url.startswith("grpc://"):
        host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"'storage' must name a host and a port, grpc://host:port, got {url}")
        return lambda: GrpcStorageProxy(host=host, port=int(port)), lock
    # SQLite lets one process write at a time; the others wait.
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    return lambda: RDBStorage(url, engine_kwargs=arguments), lock


def open_study(
    storage: BaseStorage,
    name: str,
    objectives: Sequence[str],
    pruner: BasePruner | None,
    identity: dict[str, Any],
) -> optuna.Study:
    """Opens or makes the study, and refuses one of other data or settings."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        pruner=pruner or MedianPruner(n_startup_trials=5),
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
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        listed = ", ".join(f"{k} ({theirs.get(k)!r}, now {mine.get(k)!r})" for k in keys)
        raise ValueError(
            f"the study '{name}' is of another search: it differs in {listed}; choose another "
            "'study_name' or 'storage'"
        )
    return study
