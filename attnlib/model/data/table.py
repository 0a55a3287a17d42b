"""The user's own texts: a CSV file with a column of texts and one of labels, a letter a token."""

import csv
import hashlib
import io
import re
from pathlib import Path

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled

COLUMNS = ("text", "label")
LEAST = 50  # texts
LONGEST = 512  # letters of a text that are kept
PAD = 0  # the token after the end of a short text


def read_table(path: Path) -> Labelled:
    """Read ``text,label`` rows: characters as tokens, 60 % to learn from, 20 % for validation, 20 % for the test.

    Texts become as long as the longest, by padding, and at most 512 characters, by cutting. A text that is there twice
    is taken once, so that none is in two parts.

    Raises:
        ValueError: it cannot be read, is no UTF-8 CSV, lacks a column, **or** has an empty text or label, two labels
            for one text, fewer than 50 texts, only one class, or nearly as many classes as texts.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    try:
        labels, twice = examples(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    classes = sorted(set(labels.values()))
    if len(labels) < LEAST:
        raise ValueError(f"{path}: {len(labels)} different texts; at least {LEAST} are needed")
    if len(classes) == 1:
        raise ValueError(f"{path}: every label is {classes[0]!r}; at least two classes are needed")
    if 2 * len(classes) > len(labels):
        raise ValueError(f"{path}: {len(classes)} labels for {len(labels)} texts; is label a column of classes?")
    letters = sorted({letter for text in labels for letter in text[:LONGEST]})
    length = min(max(map(len, labels)), LONGEST)
    tokens = np.full((len(labels), length), PAD, dtype=np.int64)
    token_of = {letter: place for place, letter in enumerate(letters, PAD + 1)}
    for row, text in zip(tokens, labels, strict=True):
        row[: len(text)] = [token_of[letter] for letter in text[:LONGEST]]
    order = shuffled(len(labels))
    held_out = len(labels) // 5
    digest = hashlib.sha256(content).hexdigest()[:8]
    return Labelled(
        name=f"{re.sub(r'[^A-Za-z0-9_.]', '_', path.stem)[:40]}.{digest}",
        source="a file of the user",
        licence="the user's",
        tokens=tokens[order],
        labels=np.array([classes.index(label) for label in labels.values()], dtype=np.int64)[order],
        vocab_size=len(letters) + 1,
        n_classes=len(classes),
        sizes=(len(labels) - 2 * held_out, held_out, held_out),
        notes=tuple(
            f"{count} of {len(labels)} texts {done}"
            for count, done in (
                (sum(len(text) > LONGEST for text in labels), f"were cut to {LONGEST} letters"),
                (sum(len(text) < length for text in labels), f"were padded to {length} letters"),
                (twice, "were there more than once, and are taken once"),
            )
            if count
        ),
    )


def examples(reader: "csv.DictReader[str]") -> tuple[dict[str, str], int]:
    """Labels by text, and how many rows repeat a text.

    Raises:
        ValueError: see ``read_table``; the message names the line.
    """
    columns = reader.fieldnames or []
    if missing := [name for name in COLUMNS if name not in columns]:
        raise ValueError(f"no column {' or '.join(missing)}; its columns are {', '.join(columns) or 'none'}")
    labels: dict[str, str] = {}
    rows = 0
    for row in reader:
        text, label = (row[name] for name in COLUMNS)
        rows += 1
        if not text or not label:
            raise ValueError(f"line {reader.line_num}: no {'label' if text else 'text'}")
        if labels.setdefault(text, label) != label:
            raise ValueError(f"line {reader.line_num}: {text[:40]!r} is {label!r} here and {labels[text]!r} before")
    return labels, rows - len(labels)
