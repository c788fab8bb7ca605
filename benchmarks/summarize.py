"""One table of several runs of examples/distill.py, such as with several seeds.

python benchmarks/summarize.py out/seed0 out/seed1 out/seed2
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders given as --out")
    args = parser.parse_args()
    runs = [json.loads((folder / "results.json").read_text()) for folder in args.runs]

    rows = defaultdict(list)
    for run in runs:
        for name, result in run["results"].items():
            # Only what was made alike is averaged.
            key = (name, result["protocol"]["name"], result["num_clouds"], result["bits"])
            rows[key] += result["accuracy"]
    print("| set | clouds | bits | protocol | accuracy % | every run |")
    print("|---|---|---|---|---|---|")
    for (name, protocol, clouds, bits), accuracy in rows.items():
        percent = [100 * value for value in accuracy]
        spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
        each = ", ".join(f"{value:.1f}" for value in percent)
        mean = f"{statistics.mean(percent):.1f}{spread}"
        print(f"| {name} | {clouds:,} | {bits:,} | {protocol} | {mean} | {each} |")
    steps = sorted({run["provenance"]["steps"] for run in runs})
    seeds = [run["provenance"]["seed"] for run in runs]
    seconds = [run["distill_seconds"] for run in runs]
    print(f"\n{steps} steps, seeds {seeds}, distilled in {min(seconds):.0f}-{max(seconds):.0f} s")


if __name__ == "__main__":
    main()
