"""Numbers of a text, and what commands of attnlib print: found in both, and compared at the rounding of the text."""

import functools
import io
import itertools
import re
import shlex
from contextlib import redirect_stdout
from typing import NamedTuple
from unittest import mock

from attnlib.commands.__main__ import main
from attnlib.compare.cells import read_cells
from attnlib.runs.load import load
from attnlib.show.table import Table
from attnlib.tests import ROOT

DIGITS = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?"
NUMBER = re.compile(rf"(?<![\w.])({DIGITS})(?!\w|\.?\d)( ?%| points)?")
# a number in a sentence of findings.py, with its interval or half-width if it has one
HOLE = rf"({DIGITS})(?:(?: %| \w\w)? \[({DIGITS}), ({DIGITS})\]| ± ({DIGITS}))?"
# what has digits and is no measurement: names of papers, code, versions, and the confidence of intervals
OTHER = re.compile(
    r"arXiv \d{4}\.\d{5}|doi 10\.\S+|`[^`]*`|\d+\.\d+\.\d+\S*|(?:torch|PyTorch|Python) \d+\.\d+"
    r"|95 % (?:interval|confidence)|95 of 100 measurements"
)
LISTED = (", ", " to ", " and ", " or ")  # between numbers that share a percent sign


class Number(NamedTuple):
    """A number as it is written.

    Args:
        value: in percent if it is written so.
        step: value of its last digit.
        percent: True if it is written in percent or percentage points.
        plain: True if it is an integer without a percent sign.
    """

    value: float
    step: float
    percent: bool = False
    plain: bool = False


def number(text, *, percent=False):
    """Return the number that a text writes."""
    mantissa, _, exponent = text.replace(",", "").partition("e")
    decimals = len(mantissa.partition(".")[2])
    whole = not decimals and not exponent and not percent
    return Number(float(text.replace(",", "")), 10.0 ** (int(exponent or 0) - decimals), percent, whole)


def numbers(text):
    """Return every number in an output."""
    return [number(digits, percent=bool(sign)) for digits, sign in NUMBER.findall(text)]


def groups(text):
    """Return the measured numbers of a text in groups, each group with its place.

    A number with a decimal point or a percent sign is measured. So are the numbers of ``x [a, b]``, ``x ± h`` and
    ``n of m``, each of which is one group. Other integers are taken for sizes and settings.
    """
    text = OTHER.sub(lambda match: "#" * len(match[0]), text)
    found = list(NUMBER.finditer(text))
    gaps = [text[one.end() : other.start()] for one, other in itertools.pairwise(found)] + [""]
    lengths, place = [], 0
    while place < len(found):
        lengths.append(together(text, found, gaps, place))
        place += lengths[-1]
    result, percent = [], False
    for length in reversed(lengths):  # a percent sign is that of the numbers listed before it, too
        place -= length
        own = found[place : place + length]
        follows = text[own[-1].end() :].startswith(("] %", "] points"))
        percent = follows or any(one[2] for one in own) or (percent and gaps[place + length - 1] in LISTED)
        group = tuple(number(one[1], percent=percent) for one in own)
        if length > 1 or not group[0].plain:
            result.append((group, own[0].start()))
    return result[::-1]


def together(text, found, gaps, place):
    """Return how many numbers from a place on are a group: 3 of ``x [a, b]``, 2 of ``x ± h`` or ``n of m``, or 1."""
    interval = re.fullmatch(r"(?: \w\w)? \[", gaps[place]) and gaps[place + 1] == ", "
    if interval and text.startswith("]", found[place + 2].end()):
        return 3
    count = gaps[place] == " of " and not found[place][2]
    return 2 if count or gaps[place] == " ± " else 1


def matches(said, printed):
    """Return True if a printed number is that of a text, which may round it, leave out its sign or write percent."""
    scale = {(True, False): 100, (False, True): 0.01}.get((said.percent, printed.percent), 1)
    apart, step = abs(abs(said.value) - abs(printed.value) * scale), printed.step * scale
    rounding = (said.step + step) / 2 if step < 0.99 * said.step else 0
    return apart <= rounding + 1e-9 * max(1, abs(said.value))


def stands(group, printed):
    """Return True if the numbers of a group stand side by side in an output; limits of an interval in either order."""
    orders = [group, (group[0], group[2], group[1])] if len(group) == 3 else [group]
    windows = zip(*(printed[start:] for start in range(len(group))), strict=False)
    return any(all(map(matches, order, window)) for window in windows for order in orders)


def pattern(phrase):
    """Return the pattern of a phrase; `` ... `` in it stands for whatever is between, as little as possible."""
    return ".*?".join(map(re.escape, phrase.split(" ... ")))


def holes(sentence, text):
    """Return the match of a sentence with ``{}`` for each number in a text, and its numbers; it must stand there once.

    Raises:
        ValueError: it does not.
    """
    found = list(re.finditer(HOLE.join(map(re.escape, sentence.split("{}"))), text))
    if len(found) != 1:
        raise ValueError(f"stands {len(found)} times on the page: {sentence}")
    written = found[0].groups()
    return found[0], [written[place : place + 4] for place in range(0, len(written), 4)]


def agree(written, expected):
    """Return True if a number, its interval and its half-width are those expected, rounded as they are written.

    Args:
        written: texts of the number, the lower and the upper limit, and the half-width; None where there is none.
        expected: a number, or an ``Estimate``.
    """
    value, low, high = expected if isinstance(expected, tuple) else (expected, None, None)
    wanted = (value, low, high, None if low is None else max(value - low, high - value))
    return all(text is None or rounded(text, other) for text, other in zip(written, wanted, strict=True))


def rounded(text, value):
    """Return True if a text writes a value, rounded to the text's digits."""
    said = number(text)
    return value is not None and abs(said.value - value) <= said.step / 2 * (1 + 1e-9)


class Printed:
    """Commands of attnlib, each run once in this process: what they print, and the tables that they print."""

    def __init__(self):
        self.load = functools.cache(load)  # a run is read once, whatever the number of commands
        self.texts, self.tables, self.found, self.read = {}, {}, {}, {}

    def words(self, command):
        """Return the words of a command as a shell would pass them on, with whole paths."""
        found = []
        for word in shlex.split(command)[1:]:
            paths = sorted(map(str, ROOT.glob(word))) if word.endswith(".json") else []
            found += paths or [word]
        return found

    def text(self, command):
        """Return what a command prints."""
        if command not in self.texts:
            tables, out, show = self.tables.setdefault(command, []), io.StringIO(), Table.print

            def both(table):
                tables.append(table)
                show(table)

            reading = mock.patch("attnlib.runs.find.load", self.load)
            with reading, mock.patch.object(Table, "print", both), redirect_stdout(out):
                assert main(self.words(command)) == 0, command
            self.texts[command] = out.getvalue()
        return self.texts[command]

    def numbers(self, command):
        """Return the numbers that a command prints."""
        if command not in self.found:
            self.found[command] = numbers(self.text(command))
        return self.found[command]

    def rows(self, command, above=""):
        """Return the rows of a command's tables, of those below a line that begins with ``above``."""
        self.text(command)
        return [
            row
            for table in self.tables[command]
            if not above or any(line.startswith(above) for line in table.before)
            for row in table.rows
        ]

    def cell(self, command, column, row, above=""):
        """Return the value in a column of the only row that has these values in other columns."""
        found = [
            own[column]
            for own in self.rows(command, above)
            if column in own and all(own.get(name) == value for name, value in row.items())
        ]
        assert len(found) == 1, (command, column, row, len(found))
        return found[0]

    def cells(self, paths):
        """Return the cells of the saved runs whose paths fit a pattern."""
        if paths not in self.read:
            with mock.patch("attnlib.runs.find.load", self.load):
                self.read[paths], left_out = read_cells(sorted(ROOT.glob(paths)))
            assert not left_out
        return self.read[paths]
