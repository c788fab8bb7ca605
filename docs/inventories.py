"""Where the pages of what others made lie, for links that are the same with and without a network.

Sphinx takes the addresses of PyTorch's, PyG's, NumPy's and Python's pages from inventories that it
loads from there. A build must not need a network, so that the names which our pages use stand here,
and small inventories are written of them. With `DOCS_ONLINE=1` the whole inventories are loaded.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

BASES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "torch_geometric": "https://pytorch-geometric.readthedocs.io/en/latest/",
    "matplotlib": "https://matplotlib.org/stable/",
}

_BUILTINS = {
    "library/functions.html": "class:bool class:float class:int class:list class:str class:tuple "
    "class:range class:slice class:dict class:bytes",
    "library/exceptions.html": "exception:ValueError exception:TypeError "
    "exception:FileNotFoundError exception:FloatingPointError",
    "library/constants.html": "data:None data:True data:False",
    "library/os.html": "class:os.PathLike",
    "library/pathlib.html": "class:pathlib.Path",
    "library/collections.abc.html": "class:collections.abc.Callable "
    "class:collections.abc.Iterable class:collections.abc.Iterator "
    "class:collections.abc.Mapping class:collections.abc.Sequence",
    "library/abc.html": "class:abc.ABC",
    "library/typing.html": "data:typing.Any data:typing.Literal class:typing.NamedTuple",
}
_TORCH = {
    "tensors.html": "class:torch.Tensor",
    "tensor_attributes.html": "class:torch.device class:torch.dtype",
}
_MATPLOTLIB = {"api/figure_api.html": "class:matplotlib.figure.Figure"}
_PYG = "torch_geometric"
#: Other names of these, as docstrings use and classes report them.
ALIASES = {
    "Data": f"{_PYG}.data.Data",
    "Dataset": f"{_PYG}.data.Dataset",
    "torch._C.Generator": "torch.Generator",
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "torch.optim.optimizer.Optimizer": "torch.optim.Optimizer",
    f"{_PYG}.data.data.Data": f"{_PYG}.data.Data",
    f"{_PYG}.data.batch.Batch": f"{_PYG}.data.Batch",
    f"{_PYG}.data.dataset.Dataset": f"{_PYG}.data.Dataset",
    f"{_PYG}.data.in_memory_dataset.InMemoryDataset": f"{_PYG}.data.InMemoryDataset",
    f"{_PYG}.transforms.base_transform.BaseTransform": f"{_PYG}.transforms.BaseTransform",
}
_GENERATED = {
    "torch": "class:torch.Generator class:torch.nn.Module class:torch.optim.Optimizer "
    "class:torch.optim.SGD class:torch.optim.Adam function:torch.func.vmap "
    "class:torch.nn.ReLU class:torch.nn.BatchNorm1d function:torch.cdist",
    "numpy": "class:numpy.ndarray function:numpy.savez",
    "torch_geometric": "class:torch_geometric.data.Data class:torch_geometric.data.Batch "
    "class:torch_geometric.data.Dataset class:torch_geometric.data.InMemoryDataset "
    "class:torch_geometric.datasets.ModelNet class:torch_geometric.datasets.ShapeNet "
    "class:torch_geometric.transforms.BaseTransform "
    "class:torch_geometric.transforms.SamplePoints "
    "class:torch_geometric.nn.conv.MessagePassing",
}


def mapping(folder: Path) -> dict[str, tuple[str, str | None]]:
    """The setting `intersphinx_mapping`; the small inventories are written to a folder."""
    if os.environ.get("DOCS_ONLINE"):
        return {name: (base, None) for name, base in BASES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"python": _BUILTINS, "torch": _TORCH, "matplotlib": _MATPLOTLIB}
    for name in BASES:
        lines = [
            f"{entry} {page}"
            for page, entries in pages.get(name, {}).items()
            for entry in entries.split()
        ]
        where = "reference/generated" if name == "numpy" else "generated"
        for entry in _GENERATED.get(name, "").split():
            lines.append(f"{entry} {where}/{entry.partition(':')[2]}.html")
        (folder / f"{name}.inv").write_bytes(_inventory(name, lines))
    return {name: (base, str(folder / f"{name}.inv")) for name, base in BASES.items()}


def _inventory(project: str, lines: list[str]) -> bytes:
    """An inventory of Sphinx, version 2, of lines with a role, a name and a page.

    The names of these that are not their own lead to the same places.
    """
    head = (
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    entries = []
    for line in lines:
        entry, page = line.split()
        role, name = entry.split(":")
        others = [other for other, own in ALIASES.items() if own == name]
        entries += [f"{one} py:{role} 1 {page}#{name} -\n" for one in (name, *others)]
    return head.encode() + zlib.compress("".join(entries).encode())
