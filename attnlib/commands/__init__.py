"""The command line ``attnlib``: one file a subcommand, each a few lines onto ``compare`` and ``show``.

A subcommand is a module with ``declare`` (its options) and ``run`` (returns an exit code), and a line in ``__main__``.
"""
