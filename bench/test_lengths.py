"""Does a stack that is trained on short sequences work on longer ones? Tasks whose answer is known; run it by name.

A point is one training, saved as its row's ``probe``; the tables are ``attnlib findings``'s. Seeds pair: with the same
one, two encodings share their first weights and their batches, and all are judged on the same examples.
"""

from attnlib.cases.settings import PRESETS
from attnlib.model.data import TASKS, usual_train_length
from attnlib.plugin import over

SEEDS = 5
ENCODINGS = ("none", "sinusoidal", "learned", "learned_offset", "rotary", "alibi", "t5", "kerple", "fire")
FEWER = ("none", "learned_offset", "rotary")  # with which the controls are trained
CONTROLS = ("parity", "repeat_copy")
RUN = {"device": "cpu", "dtype": "float32", "dropout": 0.0, "denormals": "flush", "head_dim": None}
RUN |= {"block": "pre_ln", "attention": "sdpa", "init": "torch_mha"}
STACK = RUN | {"d_model": 64, "n_heads": 4, "depth": 2, "ffn_mult": 2, "batch_size": 32}
RATE = 3e-3
STEPS = {"bin_majority": 2000, "unique_copy": 4000, "sort": 2500, "parity": 1000}  # at most
OTHERS = 1500  # of other data
# the smallest stack of arXiv 2410.02140, and its recipe but for the first weights
SMALLEST = RUN | {"d_model": 16, "n_heads": 1, "depth": 1, "ffn_mult": 4, "activation": "gelu", "batch_size": 64}
PUBLISHED = {"data": "bin_majority", "train_length": 50, "test_length": 150, "steps": 30_000}


def is_smoke(settings):
    """Return True if only the machinery is tried."""
    return settings.preset == "smoke"


def encodings(settings, data):
    """Return the encodings that were asked for, or else the study's."""
    if settings.pe != PRESETS[settings.preset].pe:
        return settings.pe
    return ("none", "learned_offset") if is_smoke(settings) else FEWER if data in CONTROLS else ENCODINGS


def train_length(settings, data):
    """Return the symbols or letters of the longest training sequence."""
    if settings.train_length is None and is_smoke(settings) and data in TASKS:
        return 3
    return settings.train_length or usual_train_length(data)


def seeds(settings):
    """Return five seeds, or one if only the machinery is tried."""
    return range(1 if is_smoke(settings) else SEEDS)


def cost_points(settings):
    """Return the stack that is trained, with every encoding."""
    return [
        {"data": data, "train_length": train_length(settings, data), "pe": pe}
        for data in settings.data_by_length
        for pe in encodings(settings, data)
    ]


def published_points(settings):
    """Return five seeds of the published row."""
    tiny = {"train_length": 5, "test_length": 15, "steps": 6} if is_smoke(settings) else {}
    return [PUBLISHED | tiny | {"seed": seed} for seed in seeds(settings)]


def points(settings):
    """Return five seeds of every encoding: one data set after another, the controls last."""
    found = [
        point | {"steps": 6 if is_smoke(settings) else STEPS.get(point["data"], OTHERS), "seed": seed}
        for seed in seeds(settings)
        for point in cost_points(settings)
    ]
    return sorted(found, key=lambda point: settings.data_by_length.index(point["data"]))


@over(cost_points, phase="train_step", **STACK)
def test_cost(measure_case):
    """Times a training step beside the same without encoding, at the longest sequences of the training."""
    measure_case()


@over(published_points, phase="lengths", pe="learned_offset", learning_rate=1e-3, **SMALLEST)
def test_published(train_case):
    """Repeats a published row: majority of bits, trained up to 50 of them, tested up to 150."""
    train_case()


@over(points, phase="lengths", learning_rate=RATE, **STACK)
def test_lengths(train_case):
    """Trains with every encoding on short sequences, seed by seed, and tests on longer ones."""
    train_case()
