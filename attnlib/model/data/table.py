"""The user's own texts as a data set: a CSV file with a column of texts and one of labels; each letter is a token."""

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from attnlib.errors import message, shown
from attnlib.model.data.labelled import Labelled, shuffled

COLUMNS = ("text", "label")
LEAST = 50  # least number of texts
LARGEST = 2**28  # most bytes of a file
LONGEST = 512  # letters that are kept of a longer text
PAD = 0  # the token that fills up short texts
MISSING = {"", "nan", "-nan", "na", "n/a", "<na>", "null", "none"}  # what programs write where there is no label


def read_table(path: Path) -> Labelled:
    """Return the data set in a CSV file of ``text,label`` rows: 60 % for training, 20 % validation, 20 % test.

    Characters are tokens. Texts are cut to 512 characters and padded to the longest. Texts that are equal after the cut
    are taken once, so that no text is in two parts.

    Raises:
        ValueError: the file cannot be read, is not a UTF-8 CSV file, lacks a column, **or** has a row without a text or
            label, two spellings of one label, two labels for one text, fewer than 50 texts, only one class, more
            classes than half the texts, or a class without a training example.
    """
    try:
        content = content_of(path)
        labels, cut, twice = examples(rows_of(content.decode("utf-8-sig")))
        classes = classes_of(labels)
        order, held_out = shuffled(len(labels)), len(labels) // 5
        numbers = np.array([classes.index(label) for label in labels.values()], dtype=np.int64)[order]
        sizes = (len(labels) - 2 * held_out, held_out, held_out)
        if absent := set(range(len(classes))) - set(numbers[: sizes[0]].tolist()):
            wrong = f"label {shown(classes[min(absent)])} has no training example"
            raise ValueError(message(wrong, do="give more texts with it"))
    except OSError as error:
        raise ValueError(message(f"{path}: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise ValueError(message(f"{path}: not UTF-8 text", do="save it in this encoding")) from None
    except ValueError as error:
        raise ValueError(message(f"{path}: {error}")) from None
    tokens, letters = tokens_of(list(labels))
    padded = sum(len(text) < tokens.shape[1] for text in labels)
    done = ((cut, f"were cut to {LONGEST} letters"), (padded, f"were padded to {tokens.shape[1]} letters"))
    return Labelled(
        name=f"{re.sub(r'[^A-Za-z0-9_.]', '_', path.stem)[:40]}.{hashlib.sha256(content).hexdigest()[:8]}",
        source="a file of the user",
        licence="the user's",
        tokens=tokens[order],
        labels=numbers,
        vocab_size=letters + 1,
        n_classes=len(classes),
        sizes=sizes,
        letters=np.array([len(text) for text in labels], dtype=np.int64)[order],
        notes=tuple(
            f"{count} of {len(labels)} texts {what}"
            for count, what in (*done, (twice, "were in the file more than once, and are taken once"))
            if count
        ),
    )


def content_of(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ValueError: the path is not a regular file, **or** the file is too large.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError(message("not a file"))
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(message(f"at most {LARGEST} bytes are read", size))
    return path.read_bytes()


def rows_of(content: str) -> list[list[str]]:
    """Return the rows of a CSV file, the heading first.

    Raises:
        ValueError: a row is not CSV; the message names it, counting the heading as row 1.
    """
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    limit = csv.field_size_limit(LARGEST)  # longer texts than Python's usual limit are cut, not refused
    try:
        for row in reader:
            rows.append(row)
    except csv.Error as error:
        raise ValueError(message(f"row {len(rows) + 1}: {error}")) from None
    finally:
        csv.field_size_limit(limit)  # it holds for all readers of the process
    return rows


def examples(rows: Sequence[list[str]]) -> tuple[dict[str, str], int, int]:
    """Return the labels by text, the number of texts that were cut, and the number of rows that repeat a text.

    Raises:
        ValueError: see ``read_table``; the message names the row, counting the heading as row 1.
    """
    columns = rows[0] if rows else []
    if missing := [name for name in COLUMNS if columns.count(name) != 1]:
        raise ValueError(message(f"exactly one column must be {' and one '.join(missing)}", columns))
    labels: dict[str, str] = {}
    spellings: dict[str | Decimal, str] = {}
    cut = count = 0
    for place, row in enumerate(rows[1:], 2):
        if not row:  # an empty line
            continue
        if len(row) != len(columns):
            wrong = f"row {place}: {len(row)} fields for {len(columns)} columns"
            raise ValueError(message(wrong, do="quote texts with commas"))
        whole, label = (row[columns.index(name)] for name in COLUMNS)
        text, meant = whole[:LONGEST], meaning(label)
        if not text.strip():
            raise ValueError(message(f"row {place}: no text", do="give one, or delete the row"))
        if meant in MISSING:
            wrong = f"row {place}: no label, but {shown(label)}"
            raise ValueError(message(wrong, do="give one, or delete the row"))
        spelling = spellings.setdefault(meant, label)
        if spelling != label:
            wrong = f"row {place}: label {shown(label)}, and {shown(spelling)} in an earlier row, differ only in "
            wrong += "blanks, case or the way a number is written"
            raise ValueError(message(wrong, do="spell them alike"))
        known = labels.setdefault(text, label)
        if known != label:
            wrong = f"row {place}: {shown(text)} has label {shown(label)}, and {shown(known)} in an earlier row"
            raise ValueError(message(wrong, do="give each text one label"))
        count += 1
        cut += len(whole) > LONGEST
    return labels, cut, count - len(labels)


def meaning(label: str) -> str | Decimal:
    """Return what all spellings of a label have in common: its number, or its letters without case and extra blanks."""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text  # nan is not equal to itself


def classes_of(labels: Mapping[str, str]) -> list[str]:
    """Return the different labels, sorted.

    Raises:
        ValueError: there are too few texts, only one class, **or** too many classes.
    """
    classes = sorted(set(labels.values()))
    if len(labels) < LEAST:
        raise ValueError(message(f"{len(labels)} different texts are too few", do=f"give at least {LEAST}"))
    if len(classes) == 1:
        raise ValueError(message(f"every label is {shown(classes[0])}", do="give texts with at least two labels"))
    if 2 * len(classes) > len(labels):
        wrong = f"{len(classes)} different labels for {len(labels)} texts"
        raise ValueError(message(wrong, do="give at least 2 texts a label"))
    return classes


def tokens_of(texts: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return texts as tokens ``[N, T]``, padded to the longest, and the number of different letters."""
    letters = sorted({letter for text in texts for letter in text})
    token_of = {letter: place for place, letter in enumerate(letters, PAD + 1)}
    tokens = np.full((len(texts), max(map(len, texts))), PAD, dtype=np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = [token_of[letter] for letter in text]
    return tokens, len(letters)
