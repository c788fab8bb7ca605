"""Artifacts of a study: files that its page in Optuna's dashboard shows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from torch_geometric_ddp._checks import check_names, shown
from torch_geometric_ddp._files import check_folder
from torch_geometric_ddp.tuning.report import TuningResult

__all__ = ["keep_artifacts"]

# What the dashboard shows of a file, where it does not know its suffix.
_TYPES = {".safetensors": "application/octet-stream"}


def keep_artifacts(
    result: TuningResult,
    files: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
) -> list[str]:
    """Puts files beside a study, such as its best distilled set and a picture of it.

    .. code-block:: console

        $ optuna-dashboard study.journal --artifact-dir artifacts

    A file that is there already, by name and content, is not put there again.

    Args:
        result (TuningResult): The study.
        files (sequence of paths): The files.
        folder (path): Where the artifacts of the study are kept; processes on several machines
            share it, or each has what it put there.

    Returns:
        The names of the files that are new there.

    Raises:
        TypeError, ValueError: If one of :obj:`files` is no file, two have the same name, or
            :obj:`folder` cannot be written to.
    """
    folder = check_folder("folder", folder)
    if isinstance(files, str | bytes | os.PathLike) or not isinstance(files, Iterable):
        raise TypeError(f"'files' must be a sequence of paths, got {shown(files)}")
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"'files' must be files, there is none at '{path}'")
    check_names("files", [path.name for path in paths])
    folder.mkdir(parents=True, exist_ok=True)
    store, known = FileSystemArtifactStore(str(folder)), {}
    for meta in get_all_artifact_meta(result.study):
        # What another machine put there may not lie here.
        if (folder / meta.artifact_id).is_file():
            known[meta.filename] = (folder / meta.artifact_id).read_bytes()
    new = [path for path in paths if known.get(path.name) != path.read_bytes()]
    for path in new:
        upload_artifact(
            artifact_store=store,
            file_path=str(path),
            study_or_trial=result.study,  # A trial that is finished takes none.
            mimetype=_TYPES.get(path.suffix),
        )
    return [path.name for path in new]
