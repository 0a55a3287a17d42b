"""First lines of docstrings."""

import ast
import re

from attnlib.tests import ROOT

FILES = sorted(
    [path for folder in ("attnlib", "bench", "examples") for path in (ROOT / folder).rglob("*.py")]
    + [ROOT / "conftest.py", ROOT / "plots.py"]
)
CLAUSES = ("What", "Whether", "Of", "As", "Where")  # each begins a clause that says neither what is done nor returned
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def first_words(text):
    """Return the first word of each docstring in a file's text, by the line of what it describes."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
    docstrings = {getattr(node, "lineno", 1): ast.get_docstring(node) or "" for node in nodes}
    return {line: word[0] for line, docstring in docstrings.items() if (word := re.search(r"\w+", docstring))}


def test_no_docstring_begins_with_a_clause():
    """A docstring begins with what is done, returned or described."""
    found = [(path, *one) for path in FILES for one in first_words(path.read_text()).items()]

    assert [(path, line) for path, line, word in found if word in CLAUSES] == []


def test_docstrings_are_found_at_every_level():
    """Those of the file, of classes, of methods and of functions in functions all count."""
    text = '''"""What."""
class A:
    """Of, and more."""
    def b(self):
        """`As`."""
        def c():
            """Where."""
'''

    assert first_words(text) == {1: "What", 2: "Of", 4: "As", 6: "Where"}
