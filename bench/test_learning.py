"""Is a learned encoding as good as a fixed one, and does depth overfit? Small classifiers on real data; run it by name.

A point is one training, saved as its row's ``probe``; the verdicts are ``attnlib findings``'s. Seeds pair: with the
same one, two encodings share their first weights, their examples and their batches.
"""

from attnlib.cases.settings import PRESETS
from attnlib.model.data import data_set
from attnlib.plugin import over

STACK = {"d_model": 32, "n_heads": 4, "head_dim": None, "ffn_mult": 2, "attention": "sdpa", "init": "torch_mha"}
RUN = {"device": "cpu", "dtype": "float32", "dropout": 0.0, "denormals": "flush"}
TWO = STACK | RUN | {"block": "pre_ln", "depth": 2}
RATES = (3e-3, 1e-2, 3e-2)
DEPTH_RATE = 3e-3  # one for all depths and blocks
SCALES = ("learned_0.02", "learned_0.71")
BLOCKS = ("plain", "residual", "pre_ln")
RECIPES = {"digits": {"batch_size": 32, "steps": 400}}
RECIPE = {"batch_size": 64, "steps": 1000}  # of other data


def is_smoke(settings):
    """Whether the machinery is tried, and not the question."""
    return settings.preset == "smoke"


def recipe(settings, data):
    """Batch and steps."""
    return {"batch_size": 16, "steps": 6} if is_smoke(settings) else RECIPES.get(data, RECIPE)


def encodings(settings):
    """Those of the run, and ``learned`` from three scales."""
    if is_smoke(settings):
        return settings.pe if settings.pe != PRESETS["smoke"].pe else ("none", "sinusoidal", "learned")
    return tuple(dict.fromkeys((*settings.pe, *SCALES * ("learned" in settings.pe))))


def cost_points(settings):
    """The stack that is trained, with every encoding."""
    return [{"data": data, "pe": pe} | recipe(settings, data) for data in settings.data for pe in encodings(settings)]


def bag_points(settings):
    """Every data set."""
    return [{"data": data} for data in settings.data]


def tune_points(settings):
    """Three learning rates on two seeds of their own."""
    rates, seeds = (RATES[:2], (100,)) if is_smoke(settings) else (RATES, (100, 101))
    return [
        point | {"learning_rate": rate, "seed": seed}
        for point in cost_points(settings)
        for rate in rates
        for seed in seeds
    ]


def learn_points(settings):
    """Twenty seeds an encoding."""
    seeds = range(2 if is_smoke(settings) else 20)
    return [point | {"seed": seed} for seed in seeds for point in cost_points(settings)]


def depth_points(settings):
    """Depths and training sizes for three blocks, on the first of the data sets."""
    data = settings.data[0]
    depths, sizes, seeds = ((1, 2), (50,), 1) if is_smoke(settings) else ((1, 2, 4, 8, 16), (100, 300), 4)
    sizes = [*(size for size in sizes if size < data_set(data).sizes[0]), *[None] * (not is_smoke(settings))]
    return [
        {"data": data, "block": block, "depth": depth, "n_train": size, "seed": seed} | recipe(settings, data)
        for seed in range(seeds)
        for depth in depths
        for size in sizes
        for block in BLOCKS
    ]


@over(cost_points, phase="train_step", **TWO)
def test_cost(measure_case):
    """Times a training step beside the same without encoding: what a point of accuracy costs."""
    measure_case()


@over(bag_points, phase="bag", pe="none", **TWO)
def test_bag(train_case):
    """What can be learned from how often each token comes, without any order."""
    train_case()


@over(tune_points, phase="tune", **TWO)
def test_tune(train_case):
    """Trains with each learning rate; the best on validation is what ``test_learn`` takes."""
    train_case()


@over(learn_points, phase="learn", **TWO)
def test_learn(train_case):
    """Trains with every encoding, seed by seed."""
    train_case()


@over(depth_points, phase="depth", pe="learned", learning_rate=DEPTH_RATE, **STACK | RUN)
def test_depth(train_case):
    """Trains deeper and deeper stacks on fewer and fewer examples."""
    train_case()
