"""What `docs/render_results.py` does: reads the files in `docs/results/` and renders their tables.

From the lowest: `results` is the format of the files, `cells` computes what stands in a table,
`tables` writes tables, and `runs` makes files of runs.
"""

from rendering.cells import as_list, compute, count, lines, mean, std
from rendering.results import COMPUTED, RESULTS, Results, find, load_all
from rendering.runs import RUN_COLUMNS, import_runs, rows_of_runs
from rendering.tables import TABLES, fill, list_table, markdown, render_all, rst, write_changed

__all__ = ["COMPUTED", "RESULTS", "RUN_COLUMNS", "TABLES", "Results", "find", "load_all"]
__all__ += ["as_list", "compute", "count", "import_runs", "lines", "mean", "rows_of_runs", "std"]
__all__ += ["fill", "list_table", "markdown", "render_all", "rst", "write_changed"]
