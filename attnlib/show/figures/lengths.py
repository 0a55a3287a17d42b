"""Figure of trainings on short sequences: accuracy over length."""

from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.learning.length_study import questions
from attnlib.show.figures.drawing import Sheet, style
from attnlib.show.lengths import title

EVERY = 8  # lengths between two markers of a line


def length_accuracy(cells: Cells) -> Figure | None:
    """Share of right answers over length, mean over the seeds, with the training lengths shaded."""
    found = [question for question in questions(cells) if any(one.seeds for one in question.encodings)]
    if not found:
        return None
    sheet = Sheet(len(found))
    for panel, question in zip(sheet.panels, found, strict=True):
        panel.axvspan(1, question.case.train_length or 1, color="0.9", zorder=0)
        for place, one in enumerate(question.encodings):
            if one.seeds:
                lengths, shares = one.curve()
                line = style(cells, one.case.pe) | {"markevery": (place % EVERY, EVERY), "linewidth": 1.4}
                panel.plot(lengths, shares, **line | {"markersize": 5})
        panel.set(
            xlabel="length [symbols or letters]", ylabel="right answers", title=title(question), ylim=(-0.03, 1.03)
        )
        panel.grid(alpha=0.3)
    return sheet.finish("Trained on short sequences (grey), tested on longer ones: means over all seeds")
