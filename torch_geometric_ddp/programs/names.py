"""The names that options can have, in a file, so that a parser need not load the registries.

python -m torch_geometric_ddp.programs.names

writes the file after a registry has changed; a test holds the two against each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = [
    "DATASETS",
    "ENTRIES",
    "FAMILIES",
    "METHODS",
    "NETWORKS",
    "PART_METHODS",
    "PRESETS",
    "QUOTAS",
    "ROWS",
    "collect",
]

_FILE = Path(__file__).with_name("names.json")


def collect() -> dict[str, Any]:
    """What the file has to hold, from the registries."""
    from torch_geometric_ddp.comparison import CONTROL_FAMILIES, CONTROLS, ENTRIES, PRESETS
    from torch_geometric_ddp.datasets import readers_of
    from torch_geometric_ddp.methods import METHODS
    from torch_geometric_ddp.quotas import QUOTAS
    from torch_geometric_ddp.tasks import TASKS

    return {
        "networks": {name: list(task.backbones) for name, task in TASKS.items()},
        "methods": list(METHODS),
        "part_methods": [
            name for name, make in METHODS.items() if not ENTRIES[make().name].one_label
        ],
        "datasets": sorted({name for task in TASKS for name in readers_of(task)}),
        "presets": list(PRESETS),
        "quotas": list(QUOTAS),
        "entries": list(ENTRIES),
        "families": {family.form: family.about for family in CONTROL_FAMILIES},
        "controls": list(CONTROLS),
    }


_KEPT: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))

#: The networks of every task.
NETWORKS: dict[str, list[str]] = _KEPT["networks"]
#: The methods of distillation that need no more than a data set.
METHODS: list[str] = _KEPT["methods"]
#: Those of them that distil clouds whose points are labelled with parts.
PART_METHODS: list[str] = _KEPT["part_methods"]
#: The data sets that either task can read by name.
DATASETS: list[str] = _KEPT["datasets"]
#: How much work to take.
PRESETS: list[str] = _KEPT["presets"]
#: How a storage can be divided among the classes.
QUOTAS: list[str] = _KEPT["quotas"]
#: The rows of a comparison that are methods.
ENTRIES: list[str] = _KEPT["entries"]
#: Its other rows, family by family: the form of their names, and what they are.
FAMILIES: dict[str, str] = _KEPT["families"]
#: All rows of a comparison.
ROWS: list[str] = [*ENTRIES, *_KEPT["controls"]]

if __name__ == "__main__":
    _FILE.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
