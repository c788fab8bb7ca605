"""What distilling a large set costs: disk, preparation and hours, calculated and not measured.

    python benchmarks/cost.py            # seconds
    python benchmarks/cost.py --write    # also the results file of the documentation

Clouds have 1,024 points, and DDP takes its 2,000 steps at PPC 1 (M=4, N2=252, L=16, PointNet, eight
real clouds a class). The operations and bytes of a step are counted on the device "meta", as in
growth.py, of ten classes; others take in proportion. A GPU is taken to compute 20 TFLOP/s in
single precision and to move 1 TB/s, about a third of what an H100 is sold for, and every byte
written to be read twice. The seconds of a CPU are those that were measured, of one thread: of
preparing a cloud (preparation.py) and of a step of ten classes (step_time.py).
"""

import argparse
from typing import Any

import torch
from common import save
from growth import counted

POINTS, STEPS = 1024, 2000
FLOPS, BYTES = 20e12, 1e12
PREPARE_SECONDS, STEP_SECONDS = 21.1 / 3991, 1.73
#: Objects and classes by name.
SETS = {
    "ModelNet10": (3_991, 10),
    "ModelNet40": (9_843, 40),
    "ShapeNetCore": (51_300, 55),
    "Objaverse": (800_000, 1_156),
    "Objaverse-XL": (10_000_000, 1_156),
}
COLUMNS = (
    ("set", "objects of the size of", None),
    ("objects", "objects", 0),
    ("classes", "classes", 0),
    ("clouds_gb", "clouds, GB", 1),
    ("cache_gb", "prepared, GB", 1),
    ("prepare_hours", "prepare, thread hours", 2),
    ("cpu_hours", "2,000 steps, thread hours", 1),
    ("gpu_hours", "2,000 steps, GPU hours", 2),
    ("stored_mb", "distilled, MB", 2),
)


def row(name: str, objects: int, classes: int, step: dict[str, float]) -> dict[str, Any]:
    """What a set of so many objects costs."""
    cloud = POINTS * 3 * 4
    seconds = step["gflop"] * 1e9 / FLOPS + 3 * step["gb"] * 1e9 / BYTES
    return {
        "set": name,
        "objects": objects,
        "classes": classes,
        "clouds_gb": objects * cloud / 1e9,
        # Four subsets of 252 points, and the scores of them and of the cloud.
        "cache_gb": objects * (4 * 252 * 3 * 4 + 5 * 4) / 1e9,
        "prepare_hours": objects * PREPARE_SECONDS / 3600,
        "cpu_hours": STEPS * STEP_SECONDS * classes / 10 / 3600,
        "gpu_hours": STEPS * seconds * classes / 10 / 3600,
        "stored_mb": classes * cloud / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the results file")
    args = parser.parse_args()
    step = counted(10, 1, points=252, size=POINTS)
    print(f"a step of ten classes: {step['gflop']:.0f} GFLOP, {step['gb']:.1f} GB written")
    rows = [row(name, *size, step) for name, size in SETS.items()]
    for one in rows:
        print(
            ", ".join(
                f"{head} {one[key]:.{n}f}" if n is not None else one[key]
                for key, head, n in COLUMNS
            )
        )
    if args.write:
        write(rows, step)


def write(rows: list[dict[str, Any]], step: dict[str, float]) -> None:
    """The results file of the documentation."""
    kinds = {None: {}, 0: {"as": "integer"}}
    save(
        "cost",
        title="What larger sets cost at PPC 1, calculated",
        data="none: sets of so many objects, 1,024 points each",
        commands=["python benchmarks/cost.py --write"],
        hardware="a thread of an AMD EPYC, as measured; a GPU of 20 TFLOP/s and 1 TB/s, as said",
        versions={"torch": torch.__version__},
        seeds="none",
        protocol="M=4, N2=252, L=16, PointNet, 8 real clouds a class, 2,000 steps",
        columns=[
            {"key": key, "head": head, **kinds.get(n, {"as": "decimal", "digits": n})}
            for key, head, n in COLUMNS
        ],
        rows=[
            {k: round(v, 3) if isinstance(v, float) else v for k, v in one.items()} for one in rows
        ],
        notes=[
            f"A step of ten classes has {step['gflop']:.0f} GFLOP and writes {step['gb']:.1f} GB, "
            "as counted. No GPU was at hand.",
        ],
    )


if __name__ == "__main__":
    main()
