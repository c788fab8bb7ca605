"""The programs of the command ``distill3d``: thin layers over the library, a module for each.

A module holds what a program says of itself, its options, and what it does with them. It imports
the library only when it runs, so that a parser is there at once.

Beside them stands what they share: their ``options``, and what these name (``data``, ``networks``,
``rows``, ``presets``), the harness for it (``labs``), and what is told of the runs (``showing``).
"""
