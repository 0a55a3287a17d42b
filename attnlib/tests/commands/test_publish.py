"""Weights & Biases in its offline mode: what it wrote is read back."""

import json
import os
import struct
import subprocess
import sys
from itertools import count
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from attnlib.commands.__main__ import main
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved

BLOCK = 2**15


def records(content):
    """The records of a LevelDB log behind a header of seven bytes, as W&B writes its runs."""
    assert content[:4] == b":W&B"
    place, part = 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:  # no room for another header
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield part
            part = b""


@pytest.fixture(name="path")
def _path(tmp_path):
    run = saved(ratio=1.5, status="oom")
    run["attnlib"] |= {"preset": "laptop", "order_seed": 3}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    return path


@pytest.mark.faults  # with the long tests
def test_what_it_wrote_is_read_back(path, tmp_path):
    """Configuration, a table with a row a case, a picture a figure, and how many cases have which status."""
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "attnlib.commands", "publish", str(path), "--wandb", "--project", "ours"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    config, history, summary, run = {}, {}, {}, None
    for content in records(log.read_bytes()):
        record = internal.Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if kind == "history":
            for item in record.history.item:
                *names, last = item.nested_key or [item.key]
                place = history.setdefault(names[0], {}) if names else history
                place[last] = json.loads(item.value_json)
        if kind == "summary":
            for item in record.summary.update:
                summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)

    assert (run.display_name, run.project) == ("run", "ours")
    assert config["preset"] == "laptop"
    assert config["order_seed"] == 3
    assert config["machine"]["node"] == "here"
    assert history["cases"]["_type"] == "table-file"
    pictures = [name for name, value in history.items() if isinstance(value, dict) and value["_type"] == "image-file"]
    assert sorted(pictures) == ["encoding_cost", "heat_map", "memory", "time_against_depth", "time_against_seq_len"]
    assert (summary["cases/ok"], summary["cases/oom"]) == (7, 1)
    table = json.loads((folder / "files" / history["cases"]["path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["status"] for row in rows] == 7 * ["ok"] + ["oom"]
    assert rows[1]["over_reference"] == 1.5
    assert rows[-1]["time_s"] is None


def test_the_key_is_from_the_environment_alone(path, capsys, monkeypatch):
    """Without one, nothing is asked and nothing is sent; without wandb, it says how to get it."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["publish", str(path), "--wandb"]) == 4
    assert "WANDB_API_KEY is not set; set it, or WANDB_MODE=offline" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["publish", str(path), "--wandb"]) == 4
    assert "wandb is not installed; pip install 'attnlib[wandb]'" in capsys.readouterr().err


def test_what_the_tracker_refuses_is_a_line(path, capsys, monkeypatch):
    """A wrong key, or no network."""

    class Refused(Exception):
        pass

    def init(**_):
        raise Refused("invalid API key")

    monkeypatch.setenv("WANDB_API_KEY", "wrong")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Error=Refused, Table=lambda **_: None, init=init))
    assert main(["publish", str(path), "--wandb"]) == 4
    assert "attnlib: wandb: invalid API key" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "shown"), [("x" * 128, "x" * 128), ("x" * 129, "x" * 125 + "...")])
def test_a_long_name_is_shortened(path, monkeypatch, name, shown):
    """To the 128 characters that W&B takes; the configuration has the whole one."""
    wandb = MagicMock(Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["publish", str(path.rename(path.with_stem(name))), "--wandb"]) == 0

    given = wandb.init.call_args.kwargs
    assert (given["name"], given["config"]["name"]) == (shown, name)


def test_records_are_found_across_blocks():
    """The reader of these tests joins what was split, and skips what was filled up."""
    first, second = b"a" * (BLOCK - 7 - 7 - 3), b"b" * 3 * BLOCK
    content = b":W&B\xe1\xbe\x00" + struct.pack("<IHB", 0, len(first), 1) + first + 3 * b"\x00"
    for index in count():
        piece = second[index * (BLOCK - 7) : (index + 1) * (BLOCK - 7)]
        last = (index + 1) * (BLOCK - 7) >= len(second)
        content += struct.pack("<IHB", 0, len(piece), 4 if last else 2 if index == 0 else 3) + piece
        if last:
            break
    assert list(records(content)) == [first, second]
