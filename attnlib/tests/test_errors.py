"""Sentences of errors: how one is put together, and that each error that a user can see has such a sentence."""

import ast

import pytest

from attnlib.errors import LONGEST, message, shown
from attnlib.tests import ROOT

FILES = sorted(
    path
    for path in [*(ROOT / "attnlib").rglob("*.py"), *(ROOT / "bench").rglob("*.py"), ROOT / "plots.py"]
    if "tests" not in path.relative_to(ROOT).parts
)
OWN_WORDS = {  # exceptions with words of their own, and why
    "AttributeError": "Python's own words for a name that a module lacks",
    "NotApplicable": "says why a check was left out, and is no error",
}
SAID = ("pytest.fail", "parser.error", "complain")  # functions that show an error without raising it


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"wrong": "no cases"}, "no cases"),
        ({"wrong": "dropout must lie in [0, 1)", "value": 1.5}, "dropout must lie in [0, 1), not 1.5"),
        ({"wrong": "a rate is needed", "value": None}, "a rate is needed, not None"),
        ({"wrong": "it must be a function", "value": int}, "it must be a function, not int"),
        ({"wrong": "unknown pe 'rope'", "choices": ["none", "rotary"]}, "unknown pe 'rope'; choose from none, rotary"),
        ({"wrong": "unknown pe 'rope'", "choices": {}}, "unknown pe 'rope'"),
        ({"wrong": "3 threads", "do": "take fewer"}, "3 threads; take fewer"),
        (
            {"wrong": "G divides 4", "value": 3, "choices": (1, 2, 4), "do": "or leave it out"},
            "G divides 4, not 3; choose from 1, 2, 4; or leave it out",
        ),
    ],
)
def test_parts_are_joined_in_one_way(given, sentence):
    """A sentence has what is wrong, the value, the choices and what to do, in this order, as far as they are given."""
    assert message(**given) == sentence


@pytest.mark.parametrize("value", ["x" * 10**6, ["\n"] * 10**4, range(10**9), "\n\x1b[2J"])
def test_a_value_is_short_and_in_one_line(value):
    """A huge value, or one with line breaks, does not hide the rest of the sentence."""
    text = shown(value)

    assert len(text) <= LONGEST
    assert text.isprintable()


def test_a_value_with_lines_is_in_one():
    """The ``repr`` of a module or an array has several lines."""

    class Module:
        def __repr__(self):
            return "Module(\n  (a): Linear\n)"

    assert shown(Module()) == "Module(   (a): Linear )"


def called(node):
    """The dotted name of what a call calls; an empty text if it has none, and for what is no call."""
    node, parts = getattr(node, "func", None), []
    while isinstance(node, ast.Attribute):
        node, parts = node.value, [node.attr, *parts]
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def outside_of_message(node):
    """The parts of an expression, but for those that are given to ``message``."""
    if called(node) != "message":
        yield node
        for child in ast.iter_child_nodes(node):
            yield from outside_of_message(child)


def has_words(node):
    """True of a text that is put together, or has several words."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return len(node.value.split()) > 1
    return isinstance(node, ast.JoinedStr)


def shown_by(node):
    """The expressions that a statement or call shows as an error; none of an exception in ``OWN_WORDS``."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        return [] if called(node.exc) in OWN_WORDS else [node.exc]
    return node.args if called(node) in SAID else []


def texts_of_variables(scope):
    """The expressions that are assigned to each variable; a path, as ``folder / name``, is no text."""
    values = {}
    for node in ast.walk(scope):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.NamedExpr)):
            path = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Div)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and not path:
                    values.setdefault(target.id, []).append(node.value)
    return values


def unmade(source):
    """Lines of a file's text with an error whose words ``message`` did not put together, directly or in a variable."""
    tree, found = ast.parse(source), set()
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        values = None
        for statement in ast.walk(scope):
            if shown := shown_by(statement):
                values = texts_of_variables(scope) if values is None and scope is not tree else values
                parts = [part for one in shown for part in outside_of_message(one)]
                names = {part.id for part in parts if isinstance(part, ast.Name)}
                brought = [value for name in names for value in (values or {}).get(name, [])]
                parts += [part for one in brought for part in outside_of_message(one)]
                found |= {statement.lineno} if any(map(has_words, parts)) else set()
    return sorted(found)


def test_each_error_has_such_a_sentence():
    """No error of the package, the suite or ``plots.py`` has words that ``message`` did not put together."""
    assert {str(path): lines for path in FILES if (lines := unmade(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("raise ValueError('too large')", 1),
        ("raise ValueError(f'{path}: {error}')", 1),
        ("raise failed or ValueError(f'no {card}')", 1),
        ("raise ValueError(one_line(f'no {card}'))", 1),
        ("def f():\n    why = 'too ' + 'large a number'\n    raise Left('oom', why)", 1),
        ("def f():\n    why = message('too large')\n    why += ' or two'\n    raise Left('oom', why)", 1),
        ("def f():\n    path = folder / f'{name}.json'\n    raise FileExistsError(path)", 0),
        ("def f():\n    if x:\n        pytest.fail(f'{x}')", 1),
        ("complain(['cannot write'])", 1),
        ("raise ValueError(message('too large'))", 0),
        ("wrong = 'too large'\nraise ValueError(one_line(message(wrong)))", 0),
        ("raise ValueError(str(error).replace('--threads', '--beside-threads')) from None", 0),
        ("raise Left('oom', reason)", 0),
        ("raise AttributeError(f'no {name}')", 0),
        ("try:\n    f()\nexcept OSError:\n    raise", 0),
    ],
)
def test_sentences_of_errors_are_found(source, count):
    """In every form that the code has: given directly, by a variable, in a call, and without an exception."""
    assert len(unmade(source)) == count


@pytest.mark.parametrize("name", OWN_WORDS)
def test_exceptions_with_words_of_their_own_are_in_use(name):
    """An entry that no code needs any more goes."""
    assert any(f"raise {name}(" in path.read_text() for path in FILES)
