"""Findings of the steps: verdicts on our assumptions, in a JSON file a step, and all of them on one page."""

import json
from collections import Counter

HOLDS, REFUTED, NOT_RUN = "holds", "refuted", "not run"


class Findings:
    """Verdicts and readings of one step, written down as they come, so that a step that is killed leaves what it had.

    Args:
        claims: what we assume, a sentence each, by name.
        path: of the JSON file.
    """

    def __init__(self, claims, path):
        self.claims = {
            name: {"expected": expected, "seen": "", "verdict": NOT_RUN} for name, expected in claims.items()
        }
        self.readings, self.path = {}, path
        self.write()

    def judge(self, name, holds, seen):
        """Note whether an assumption holds, and what was seen."""
        self.claims[name] |= {"seen": seen, "verdict": HOLDS if holds else REFUTED}
        self.write()

    def leave(self, name, reason):
        """Note why nothing can be said of an assumption."""
        self.claims[name] |= {"seen": reason, "verdict": NOT_RUN}
        self.write()

    def note(self, **readings):
        """Keep what was read, whatever it says of our assumptions."""
        self.readings |= readings
        self.write()

    def write(self):
        """Write everything so far."""
        text = json.dumps({"claims": self.claims, "readings": self.readings}, indent=1, default=str)
        part = self.path.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(self.path)  # whole, even if this process is killed


def read(path, claims, ended):
    """Return what a step left, as ``Findings`` wrote it; what it did not come to says how the step ended.

    Args:
        path: of its JSON file, which need not be there.
        claims: of the step.
        ended: why it did not come to its end; None if it did.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # it never began, or was killed while it wrote
        found = {"readings": {}, "claims": {}}
    for name, expected in claims.items():
        entry = found["claims"].setdefault(name, {"expected": expected, "seen": "", "verdict": NOT_RUN})
        if entry["verdict"] == NOT_RUN and not entry["seen"]:
            entry["seen"] = ended or "the step did not say"
    return found


def counts(found):
    """Return how many assumptions hold, are refuted and were not run."""
    return Counter(entry["verdict"] for step in found.values() for entry in step["claims"].values())


def page(found, about, seconds):
    """Return the summary in Markdown.

    Args:
        found: what each step left, by its name.
        about: what was looked at.
        seconds: that all of it took.
    """
    number = counts(found)
    said = f"{number[HOLDS]} hold, {number[REFUTED]} refuted, {number[NOT_RUN]} not run"
    lines = [f"# First contact: {about}", "", f"{sum(number.values())} assumptions: {said}; {seconds:.0f} s.", ""]
    lines += ["| step | we assume | seen | verdict |", "|---|---|---|---|"]
    for step, left in found.items():
        for entry in left["claims"].values():
            cells = (step, entry["expected"], entry["seen"], entry["verdict"])
            lines.append("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
