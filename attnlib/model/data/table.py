"""The user's own texts: a CSV file with a column of texts and one of labels, a letter a token."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled

COLUMNS = ("text", "label")
LEAST = 50  # texts
LARGEST = 2**28  # bytes
LONGEST = 512  # letters of a text that are kept
PAD = 0  # the token after the end of a short text


def read_table(path: Path) -> Labelled:
    """Read ``text,label`` rows: characters as tokens, 60 % to learn from, 20 % for validation, 20 % for the test.

    Texts are cut to 512 characters and padded to the longest. One that is there twice, once it is cut, is taken once,
    so that none is in two parts.

    Raises:
        ValueError: it cannot be read, is no UTF-8 CSV, lacks a column, **or** has an empty text or label, two labels
            for one text, fewer than 50 texts, only one class, nearly as many classes as texts, or a class that the
            split leaves nothing to learn of.
    """
    try:
        content = content_of(path)
        labels, cut, twice = examples(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
        classes = classes_of(labels)
        order, held_out = shuffled(len(labels)), len(labels) // 5
        numbers = np.array([classes.index(label) for label in labels.values()], dtype=np.int64)[order]
        sizes = (len(labels) - 2 * held_out, held_out, held_out)
        if absent := set(range(len(classes))) - set(numbers[: sizes[0]].tolist()):
            raise ValueError(f"too few texts are {classes[min(absent)]!r}: the split leaves none to learn from")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
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
        notes=tuple(
            f"{count} of {len(labels)} texts {what}"
            for count, what in (*done, (twice, "were there more than once, and are taken once"))
            if count
        ),
    )


def content_of(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        ValueError: it is no file, as a pipe, **or** too large.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than the {LARGEST} bytes that are read")
    return path.read_bytes()


def examples(rows: Iterator[list[str]]) -> tuple[dict[str, str], int, int]:
    """Labels by text; how many texts were cut, and how many rows repeat a text.

    Raises:
        ValueError: see ``read_table``; the message names the row, the heading being the first.
    """
    columns = next(rows, [])
    if missing := [name for name in COLUMNS if columns.count(name) != 1]:
        found = ", ".join(map(repr, columns)) or "none"
        raise ValueError(f"not one column {' nor '.join(missing)}; its columns are {found[:200]}")
    labels: dict[str, str] = {}
    cut = count = 0
    for place, row in enumerate(rows, 2):
        if not row:  # an empty line
            continue
        if len(row) != len(columns):
            raise ValueError(f"row {place}: {len(row)} fields for {len(columns)} columns; quote texts that hold commas")
        whole, label = (row[columns.index(name)] for name in COLUMNS)
        text = whole[:LONGEST]
        if not text or not label:
            raise ValueError(f"row {place}: no {'label' if text else 'text'}")
        known = labels.setdefault(text, label)
        if known != label:
            raise ValueError(f"row {place}: {text[:40]!r} is {label[:40]!r} here and {known[:40]!r} before")
        count += 1
        cut += len(whole) > LONGEST
    return labels, cut, count - len(labels)


def classes_of(labels: Mapping[str, str]) -> list[str]:
    """The different labels, sorted.

    Raises:
        ValueError: there are too few texts, one class, **or** too many.
    """
    classes = sorted(set(labels.values()))
    if len(labels) < LEAST:
        raise ValueError(f"{len(labels)} different texts; at least {LEAST} are needed")
    if len(classes) == 1:
        raise ValueError(f"every label is {classes[0][:40]!r}; at least two classes are needed")
    if 2 * len(classes) > len(labels):
        raise ValueError(f"{len(classes)} labels for {len(labels)} texts; is label a column of classes?")
    return classes


def tokens_of(texts: Sequence[str]) -> tuple[np.ndarray, int]:
    """Texts as tokens ``[N, T]``, padded to the longest, and how many different letters they have."""
    letters = sorted({letter for text in texts for letter in text})
    token_of = {letter: place for place, letter in enumerate(letters, PAD + 1)}
    tokens = np.full((len(texts), max(map(len, texts))), PAD, dtype=np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = [token_of[letter] for letter in text]
    return tokens, len(letters)
