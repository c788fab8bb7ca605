"""Distilled sets on the Hugging Face Hub: the card of one, and its way there and back."""

from __future__ import annotations

import os
import shlex
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch_geometric_ddp._checks import check_text, shown

__all__ = ["check_card_picture", "check_repo", "download", "upload", "write_card"]

_CARD = "README.md"
_TAGS = ["point-cloud", "3d", "dataset-distillation", "torch_geometric_ddp"]

_BODY = """# {title}

{facts}

{picture}A distilled set of 3D point clouds, written by `torch_geometric_ddp`: a small synthetic
set on which networks are trained in the place of the real one.

| {heads} |
|{rules}|
| {values} |

## Use

```python
from torch_geometric_ddp import SyntheticPointCloudDataset

train_set = SyntheticPointCloudDataset.from_hub({repo_id!r}, {filename!r})
```

The items are `torch_geometric.data.Data`, and a `DataLoader` of PyTorch Geometric takes them as
they are. The file is safetensors with a checksum; nothing in it is unpickled.

{figure}## How it was made

{made}

## Licence

The real clouds: {license}. A distilled set is made from real clouds, and parts of them can be
seen in it.
"""


def check_repo(repo_id: Any, filename: Any) -> None:
    """Raises unless these name a repository and a file in it, and the client is installed.

    Raises:
        ImportError: If huggingface-hub is not installed.
        TypeError, ValueError: If a name is none.
    """
    check_text("repo_id", repo_id)
    check_text("filename", filename)
    if Path(filename).name != filename or Path(filename).suffix != ".safetensors":
        raise ValueError(
            f"'filename' must be the name of a file that ends in .safetensors, got {filename!r}"
        )
    hub = _client()
    try:
        hub.utils.validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f"'repo_id' must be like 'name/set', got {repo_id!r}: {error}") from error


def _client() -> Any:
    try:
        import huggingface_hub.utils
    except ImportError as error:
        raise ImportError(
            "the Hub needs huggingface-hub: pip install huggingface-hub, or the extra 'hub' of "
            "this package"
        ) from error
    return huggingface_hub


def upload(
    write: Callable[[Path], object],
    card: str,
    picture: Any,
    repo_id: str,
    filename: str,
    **settings: Any,
) -> str:
    """Puts a set, its card and its picture into a repository, and returns where they are.

    A repository has one card, which may be of another set or have been edited: it is kept.

    Args:
        write (callable): Writes the file of the set to a path.
        card (str): The card.
        picture (path or Figure, optional): The picture.
        repo_id (str): The repository.
        filename (str): What the file is called there.
        **settings: :obj:`token`, :obj:`private`, :obj:`revision`, :obj:`commit_message` and
            :obj:`overwrite_card`, whether a card that is there gives way.
    """
    api = _client().HfApi(token=settings["token"], library_name="torch_geometric_ddp")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / filename)
        (folder / _CARD).write_text(card, encoding="utf-8")
        if hasattr(picture, "savefig"):
            picture.savefig(folder / _picture_of(filename), dpi=110)
        elif picture is not None:
            (folder / _picture_of(filename)).write_bytes(Path(picture).read_bytes())
        # All that can go wrong here has gone wrong by now.
        api.create_repo(repo_id, repo_type="dataset", private=settings["private"], exist_ok=True)
        place = {"repo_type": "dataset", "revision": settings["revision"]}
        if not settings["overwrite_card"] and api.file_exists(repo_id, _CARD, **place):
            (folder / _CARD).unlink()
            warnings.warn(
                f"the card of '{repo_id}' stays as it is: overwrite_card=True puts that of "
                f"'{filename}' in its place",
                stacklevel=3,
            )
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=settings["commit_message"],
            **place,
        )
    return str(done.commit_url)


def _picture_of(filename: str) -> str:
    """What the picture of a set is called beside its file."""
    return Path(filename).with_suffix(".png").name


def check_card_picture(picture: Any) -> None:
    """Raises unless it is none, a figure, or the file of a PNG."""
    if picture is None or hasattr(picture, "savefig"):
        return
    if isinstance(picture, bytes) or not isinstance(picture, str | os.PathLike):
        raise TypeError(f"'picture' must be a Figure or the file of one, got {shown(picture)}")
    path = Path(picture)
    if not path.is_file() or not path.read_bytes()[:8].startswith(b"\x89PNG"):
        raise ValueError(f"'picture' must be a Figure or a PNG file, got '{path}'")


def download(repo_id: str, filename: str, **settings: Any) -> Path:
    """The file of a set, fetched into the cache of the Hub unless it is there; no other file.

    Args:
        repo_id (str): The repository.
        filename (str): The file.
        **settings: :obj:`revision`, :obj:`token`, :obj:`cache_dir` and :obj:`local_files_only`.
    """
    path = _client().hf_hub_download(
        repo_id,
        filename,
        repo_type="dataset",
        library_name="torch_geometric_ddp",
        **settings,
    )
    return Path(path)


def write_card(
    made: Mapping[str, Any],
    facts: str,
    bits: int,
    repo_id: str,
    filename: str,
    license: str,
    has_picture: bool,
) -> str:
    """The card of a set: what it is, its figure and how to repeat it, and how it was made.

    Args:
        made (dict): The provenance of the set.
        facts (str): What it says of itself.
        bits (int): What it stores.
        repo_id (str): The repository.
        filename (str): The file.
        license (str): The licence of the real clouds.
        has_picture (bool): Whether a picture lies beside it.
    """
    told = made.get("evaluated")
    told = told if isinstance(told, Mapping) else {}
    protocol = told.get("protocol")
    protocol = protocol if isinstance(protocol, Mapping) else {}
    row: dict[str, Any] = {
        "method": made.get("method"),
        "PPC": made.get("ppc"),
        "bits": f"{bits:,}",
    }
    if isinstance(told.get("value"), int | float):
        row[f"{told.get('metric', 'figure')} %"] = f"{100 * told['value']:.1f}"
        row |= {"network": told.get("backbone"), "protocol": protocol.get("name")}
        row["seeds"] = str(told.get("seeds", "-")).strip("[]")
    cells = {_plain(head): _plain(value) for head, value in row.items()}
    title = f"{made.get('source', 'A set')}, distilled"
    figure = ""
    if isinstance(told.get("value"), int | float):
        settings = ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")
        described = told.get("network")
        name = described.get("partial") if isinstance(described, Mapping) else described
        # Those of the package are told without their module.
        how = (
            "`repeat_figure` of `torch_geometric_ddp.evaluation`, given the network,"
            if "." in str(name)
            else f"    distill3d evaluate {shlex.quote(filename)}\n\n"
        )
        figure = (
            f"## Repeat the figure\n\n{how}"
            f"trains {_plain(told.get('backbone'))} on the set and tests it on real clouds "
            f"(`--data` or `--dataset` says where they are). The protocol: {_plain(settings)}.\n\n"
        )
    keys = ("source", "task", "steps", "seed", "num_points", "budget_bits", "versions")
    lines = [f"- {key}: {_plain(made[key])}" for key in keys if key in made]
    data = _client().DatasetCardData(license=license, tags=_TAGS, pretty_name=_line(title))
    body = _BODY.format(
        title=_plain(title),
        facts=_plain(facts),
        picture=f"![Clouds of the set]({quote(_picture_of(filename))})\n\n" if has_picture else "",
        heads=" | ".join(cells),
        rules="---|" * (len(cells) - 1) + "---",
        values=" | ".join(cells.values()),
        repo_id=repo_id,
        filename=filename,
        figure=figure,
        made="\n".join(lines) or "The set does not say.",
        license=_plain(license),
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _line(value: Any) -> str:
    """A value in one line."""
    return " ".join(str("-" if value is None else value).split())[:300]


def _plain(value: Any) -> str:
    """A value in one line of Markdown, whatever it holds."""
    text = _line(value)
    for sign in "\\|<>*`[]!":  # The backslash first, which escapes the others.
        text = text.replace(sign, f"\\{sign}")
    return text
