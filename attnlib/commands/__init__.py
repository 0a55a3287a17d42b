"""The command line ``attnlib``: one file for each subcommand, which calls the other packages and prints tables.

A subcommand is a module with ``declare`` (its options) and ``run`` (returns an exit code), and a name in ``__main__``.
"""
