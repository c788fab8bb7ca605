"""Runs the notebook of the documentation and writes what it prints and draws into it.

    python docs/run_notebook.py        # docs/ten_minutes.ipynb

The documentation shows it as it lies there; `tests/test_pages.py` runs it without writing.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

PATH = Path(__file__).resolve().parent / "ten_minutes.ipynb"


def run(path: Path = PATH) -> NotebookNode:
    """The notebook with what its cells give, run in an empty folder.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # What the package is imported from, wherever the kernel starts.
    folders = [str(path.resolve().parent.parent), os.environ.get("PYTHONPATH")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    with tempfile.TemporaryDirectory() as folder:
        options = {"timeout": 600, "resources": {"metadata": {"path": folder}}}
        NotebookClient(notebook, kernel_name="python3", **options).execute(env=env)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # When it was run would be a change of every cell.
        if cell.cell_type == "code":  # Bars of progress are no results.
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def main() -> None:
    start = time.perf_counter()
    nbformat.write(run(), PATH)
    print(f"{PATH.name} took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
