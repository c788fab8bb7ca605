"""The interactive viewer of a distilled set: one HTML file that needs no network."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.colors import to_hex
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_classes, check_dataset, check_int, shown
from torch_geometric_ddp._files import check_place, replacing
from torch_geometric_ddp.clouds.class_names import check_among
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import find_task
from torch_geometric_ddp.transforms import NormalizeSphere
from torch_geometric_ddp.visualize.clouds import PALETTE, word_for_stored

__all__ = ["write_viewer"]

_PAGE = Path(__file__).with_suffix(".html")


def write_viewer(
    synthetic: SyntheticPointCloudDataset,
    path: str | os.PathLike[str],
    real_set: Iterable[Data] | None = None,
    num_real: int = 3,
    classes: Sequence[str | int] | None = None,
    up: str = "z",
) -> Path:
    """Writes a page in which the clouds of a distilled set are turned, stepped through and mixed.

    Beside each other stand real clouds, anchors, morphs, and the mixture of the anchors at the
    place of a slider that runs from anchor to anchor; a set without anchors has its stored clouds
    alone. All are seen from the same side, centred and scaled to the unit ball. The page is one
    file of about 5 MB, as `plotly.js <https://plotly.com/javascript/>`_ is in it, and asks for
    nothing from a network.

    .. code-block:: python

        synthetic = SyntheticPointCloudDataset.example()
        write_viewer(synthetic, "example.html", real_set=ParametricShapes(train=True))

    Args:
        synthetic (SyntheticPointCloudDataset): The distilled set; all of it is shown, whatever
            split or subset this is.
        path (str or path): The file, usually :obj:`*.html`.
        real_set (Dataset, optional): The real set. (default: no real clouds, as of an
            empty list)
        num_real (int): Real clouds of a class, the first ones. (default: :obj:`3`)
        classes (sequence of str or int, optional): The names or labels of the classes that can be
            chosen, in this order. (default: all)
        up (str): The axis that points up, :obj:`"x"`, :obj:`"y"` or :obj:`"z"`.
            (default: :obj:`"z"`)

    Returns:
        The file.

    Raises:
        ImportError: If plotly is not installed: the extra :obj:`view`.
        TypeError: If an argument is of another type than said above.
        ValueError: If a class is unknown, the classes of :obj:`real_set` are others, :obj:`up` is
            no axis, or the file cannot be written.
    """
    if not isinstance(synthetic, SyntheticPointCloudDataset):
        raise TypeError(f"'synthetic' must be a SyntheticPointCloudDataset, got {shown(synthetic)}")
    path = check_place("path", path)
    check_int("num_real", num_real, minimum=0)
    if not isinstance(up, str) or up not in ("x", "y", "z"):
        raise ValueError(f"'up' must be 'x', 'y' or 'z', got {up!r}")
    chosen = check_classes(synthetic.class_names, classes)
    plotly = _plotly()
    if isinstance(real_set, Sequence) and not real_set:
        real_set = None  # As for pictures.
    real = [] if real_set is None else _real(synthetic, real_set, num_real, chosen)
    every = _groups(synthetic)
    rows = []
    for row, label in enumerate(chosen):
        one = {"name": synthetic.class_names[label], "groups": every[label], "real": []}
        rows.append(_ranked({**one, **(real[row] if real else {})}))
    first = rows[0]["groups"][0]
    kinds = {
        "real": "real" if real else None,
        "stored": word_for_stored(synthetic.parameterization.is_morph()),
        "morph": "morph" if first["morphs"] else None,
        "path": "between the anchors" if first["weights"] is not None else None,
    }
    names = {kind: name for kind, name in kinds.items() if name is not None}
    source = synthetic.provenance.get("source")
    page = {
        "title": f"{source}, distilled" if source else "A distilled set",
        "facts": synthetic.describe(),
        "words": _words(names, synthetic),
        "up": up,
        "palette": [to_hex(color) for color in PALETTE.tolist()],
        "kinds": list(names),
        "names": names,
        "classes": rows,
    }
    # What a name holds shall not end the script that it stands in.
    text = json.dumps(page, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    before, between, after = _split(_PAGE.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(before + plotly + between + text + after, encoding="utf-8")
    return path


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            "the viewer needs plotly: pip install plotly, or the extra 'view' of this package"
        ) from error
    return str(get_plotlyjs())


def _words(names: Mapping[str, str], synthetic: SyntheticPointCloudDataset) -> str:
    """What the words and colours of the page mean."""
    said = []
    if "morph" in names:
        said += ["Anchors are what is stored; morphs are mixed from them, point by point."]
    if "ppc" in synthetic.provenance:
        said += ["PPC is the storage, in real clouds for each class."]
    said += ["Colours are parts." if synthetic.space is not None else "Colours are heights."]
    return " ".join(said)


def _split(page: str) -> tuple[str, str, str]:
    """The page around what is put into it."""
    before, rest = page.split("{{PLOTLY}}")
    between, after = rest.split("{{DATA}}")
    return before, between, after


def _flat(cloud: Tensor) -> list[float]:
    return [round(value, 4) for value in cloud.double().flatten().tolist()]


def _real(
    synthetic: SyntheticPointCloudDataset,
    real_set: Iterable[Data],
    num_real: int,
    chosen: Sequence[int],
) -> list[dict[str, Any]]:
    """The first real clouds of every chosen class, in unit size."""
    check_dataset("real_set", real_set)
    task = find_task("classification" if synthetic.space is None else "segmentation")
    bank = task.read(real_set)
    check_among("real_set", bank.class_names, synthetic.class_names)
    rows = []
    for label in chosen:
        index = (bank.y == label).nonzero().flatten()[:num_real]
        few = bank.select(index).normalize() if len(index) else None
        clouds = [] if few is None else few.pos.cpu().split(few.sizes.tolist())
        row: dict[str, Any] = {"real": [_flat(cloud) for cloud in clouds]}
        if few is not None and few.has_parts:
            parts = few.batch(index.new_tensor(range(len(index)))).y.cpu()
            row["real_parts"] = [part.tolist() for part in parts.split(few.sizes.tolist())]
        rows.append(row)
    return rows


def _groups(synthetic: SyntheticPointCloudDataset) -> list[list[dict[str, Any]]]:
    """Of every class its groups: what is stored, the morphs, and the weights of these.

    Where clouds are not mixed of anchors, all of a class are one group.
    """
    parameterization = synthetic.parameterization
    with torch.no_grad():
        weights = parameterization.mixing_weights()
        batch = parameterization()
    each, counts = parameterization.clouds_per_group, parameterization.counts
    sizes = [each * n for n in counts] if weights is None else [each] * sum(counts)
    clouds = batch.pos.detach().cpu().view(-1, batch.num_points, 3).split(sizes)
    is_morph = parameterization.is_morph().split(sizes)
    parts = None if synthetic.space is None else batch.y.cpu().view(-1, batch.num_points)
    groups = []
    for i, (group, mask) in enumerate(zip(clouds, is_morph, strict=True)):
        scaled = _scaled(group, each=weights is None)
        one = {
            "stored": [_flat(cloud) for cloud in scaled[~mask]],
            "morphs": [_flat(cloud) for cloud in scaled[mask]],
            "weights": None if weights is None else [_flat(row) for row in weights[i].cpu()],
        }
        if parts is not None:
            one["parts"] = parts.split(sizes)[i].tolist()
        groups.append(one)
    rest = iter(groups)
    return [[*itertools.islice(rest, 1 if weights is None else n)] for n in counts]


def _scaled(clouds: Tensor, each: bool) -> Tensor:
    """Clouds :obj:`[G, N, 3]` centred and scaled, each or all of a group alike, to be mixed."""
    if each:
        sizes = torch.full((len(clouds),), clouds.size(1))
        return NormalizeSphere.apply(clouds.flatten(0, 1), sizes).view_as(clouds)
    wide = clouds.double()
    centred = wide - wide.mean(dim=1, keepdim=True)
    return centred / centred.norm(dim=-1).amax().clamp_min(torch.finfo(wide.dtype).tiny)


def _ranked(row: dict[str, Any]) -> dict[str, Any]:
    """A class whose parts count from its lowest one up, for their colours, as in a picture."""
    lists = [row.get("real_parts", []), *(group.get("parts", []) for group in row["groups"])]
    present = {part for clouds in lists for parts in clouds for part in parts}
    ranks = {part: rank for rank, part in enumerate(sorted(present))}

    def ranked(held: dict[str, Any], key: str) -> dict[str, Any]:
        if key not in held:
            return held
        return {**held, key: [[ranks[part] for part in parts] for parts in held[key]]}

    groups = [ranked(group, "parts") for group in row["groups"]]
    return {**ranked(row, "real_parts"), "groups": groups}
