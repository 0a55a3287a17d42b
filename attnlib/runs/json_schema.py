"""The results contract as a JSON Schema (draft 2020-12), for programs that do not import attnlib."""

import json
from typing import Any

import msgspec

from attnlib import __version__
from attnlib.runs.schema import SCHEMA, BesideRounds, BesideRow, Row, Run, Timed

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a saved run, made from the structs of ``attnlib.runs.schema``.

    It has the types and ranges of single fields. That rows, benchmarks and ratios agree with each other is checked by
    ``attnlib.runs.schema.problems`` only.
    """
    kinds = (Run, Row, BesideRow, Timed, BesideRounds)
    (run, row, beside, timed, rounds), parts = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    ours = parts["Ours"]
    ours["properties"] = {"schema": {"const": SCHEMA}} | ours["properties"]
    ours["required"] = ["schema", *ours["required"]]
    # the structs leave these lists open, since ``problems`` reads them row by row to name each bad one
    ours["properties"]["cases"]["items"] = row
    ours["properties"]["beside"]["items"] = beside
    parts["Run"]["properties"]["benchmarks"]["items"] = with_field("case_id") | {
        "then": timed,
        "else": with_field("beside") | {"then": {"properties": {"extra_info": {"properties": {"beside": rounds}}}}},
    }
    for part in parts.values():
        del part["title"]  # which repeats its name
        part["description"] = part.get("description", "").partition("\n")[0]  # Python versions indent the rest unlike
    about = {"title": f"A saved run of attnlib, schema {SCHEMA}", "$comment": f"attnlib {__version__}"}
    return {"$schema": DIALECT, **about, **run, "$defs": parts}


def with_field(name: str) -> dict[str, Any]:
    """Return the condition ``if`` that a benchmark's ``extra_info`` has a field."""
    return {"if": {"properties": {"extra_info": {"required": [name]}}, "required": ["extra_info"]}}


def as_text(schema: dict[str, Any]) -> str:
    """Return a JSON Schema as text, a line for each definition."""
    head = {name: value for name, value in schema.items() if name != "$defs"}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    parts = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in schema["$defs"].items()]
    return "\n".join(["{", *lines, '"$defs": {', ",\n".join(parts), "}", "}"])
