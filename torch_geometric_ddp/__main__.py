"""``python -m torch_geometric_ddp``, which is the command ``distill3d``."""

import sys

from torch_geometric_ddp.programs.command import main

if __name__ == "__main__":
    sys.exit(main())
