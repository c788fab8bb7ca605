"""One table of several runs of examples/distill.py or segment.py, such as with several seeds.

python benchmarks/summarize.py out/seed0 out/seed1 out/seed2
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

# What a result holds a value of for every network, and what it is called.
SCORES = {"accuracy": "accuracy %", "instance": "instance mIoU %", "category": "class mIoU %"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders given as --out")
    args = parser.parse_args()
    runs = [json.loads((folder / "results.json").read_text()) for folder in args.runs]

    rows = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, result in run["results"].items():
            # Only what was made alike is averaged.
            key = (name, result["num_clouds"], result["bits"], result["protocol"]["name"])
            for score in SCORES.keys() & result.keys():
                rows[key][score] += result[score]
    scores = [score for score in SCORES if any(score in row for row in rows.values())]
    heads = ["set", "clouds", "bits", "protocol", *(SCORES[score] for score in scores)]
    print(f"| {' | '.join(heads)} | every run |")
    print("|" + "---|" * (len(heads) + 1))
    for (name, clouds, bits, protocol), values in rows.items():
        cells = [name, f"{clouds:,}", f"{bits:,}", protocol]
        cells += [mean(values[score]) for score in scores]
        each = ", ".join(f"{100 * value:.1f}" for value in values[scores[0]])
        print(f"| {' | '.join(cells)} | {each} |")


def mean(values: list[float]) -> str:
    percent = [100 * value for value in values]
    spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.1f}{spread}"


if __name__ == "__main__":
    main()
