"""Distils clouds whose points are labelled with parts, and shows what the result is worth.

    python examples/segment.py                                  # generated shapes, 5 minutes
    python examples/segment.py --data parts.npz --categories recommended
    python examples/segment.py --dataset shapenetpart --root data --device cuda

The program of `distill.py` for part segmentation: the same options, and the mean intersection over
union of ShapeNetPart instead of the accuracy.
"""

from distill import main, parse_args

if __name__ == "__main__":
    main(parse_args("segmentation", "out/segment", __doc__))
