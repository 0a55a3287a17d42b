"""Is a learned encoding as good as a fixed one, and does depth overfit? Small classifiers on real data; run it by name.

A point is one training, saved as its row's ``probe``; the verdicts are ``attnlib findings``'s. Seeds pair: with the
same one, two encodings share their first weights, their examples and their batches.
"""

from attnlib.cases.case import CHOSEN
from attnlib.cases.settings import PRESETS
from attnlib.model.data import data_set
from attnlib.plugin import over

STACK = {"d_model": 32, "n_heads": 4, "head_dim": None, "ffn_mult": 2, "attention": "sdpa", "init": "torch_mha"}
RUN = {"device": "cpu", "dtype": "float32", "dropout": 0.0, "denormals": "flush"}
PRE_LN = STACK | RUN | {"block": "pre_ln"}
TWO = PRE_LN | {"depth": 2}
POOL_RATE = 3e-3  # one for all poolings and encodings
RATES = (1e-3, 1e-2, 3e-2)  # tried beside it, with the pooling that was chosen
POOLINGS = ("mean", "attention")
CHOICE = 100  # seed of the trainings that choose; the others have seeds from 0 on
DEPTH_RATE = 3e-3  # one for all depths and blocks
BLOCKS = ("plain", "residual", "pre_ln")
LEARNED = 0.02  # nats: a training ends once the mean loss of an epoch is below
SEEDS = {"digits": {2: 5, 4: 2}}  # of test_learn, by data set and depth
OTHER_SEEDS = {2: 5}  # of other data, for time
# batch, and the most steps until a training's rate falls; deep stacks have a fixed number of steps
RECIPES = {"digits": {"batch_size": 32, "steps": 2000}}
RECIPE = {"batch_size": 128, "steps": 2000}  # of other data
DEPTH_STEPS = {"digits": 400}


def is_smoke(settings):
    """Return True if only the machinery is tried."""
    return settings.preset == "smoke"


def recipe(settings, data):
    """Return the batch, the most steps, and the loss at which a training ends."""
    most = {"batch_size": 16, "steps": 6} if is_smoke(settings) else RECIPES.get(data, RECIPE)
    return most | {"until_loss": LEARNED}


def encodings(settings):
    """Return the encodings of the run; of the preset ``smoke`` fewer, unless it was told which."""
    smoke = is_smoke(settings) and settings.pe == PRESETS["smoke"].pe
    return ("none", "sinusoidal", "learned") if smoke else settings.pe


def points(settings):
    """Return every encoding on every data set."""
    return [{"data": data, "pe": pe} | recipe(settings, data) for data in settings.data for pe in encodings(settings)]


def cost_points(settings):
    """Return the stacks that are trained, with every encoding."""
    return [point | {"depth": depth} for point in points(settings) for depth in depths(settings, point["data"])]


def depths(settings, data):
    """Return the depths of the stacks that are compared on a data set, with the number of seeds of each."""
    return {2: 2} if is_smoke(settings) else SEEDS.get(data, OTHER_SEEDS)


def pool_points(settings):
    """Return every encoding with each pooling."""
    return [point | {"pooling": pooling, "seed": CHOICE} for point in points(settings) for pooling in POOLINGS]


def bag_points(settings):
    """Return every data set."""
    return [{"data": data} for data in settings.data]


def tune_points(settings):
    """Return every other learning rate, with the chosen pooling."""
    choice = {"seed": CHOICE, "pooling": CHOSEN}
    rates = RATES[:1] if is_smoke(settings) else RATES
    return [point | choice | {"learning_rate": rate} for point in points(settings) for rate in rates]


def learn_points(settings):
    """Return every encoding and depth with each of its seeds, the shallow stacks first."""
    found = [
        point | {"depth": depth, "seed": seed, "pooling": CHOSEN}
        for point in points(settings)
        for depth, seeds in depths(settings, point["data"]).items()
        for seed in range(seeds)
    ]
    return sorted(found, key=lambda one: (one["depth"], one["seed"]))


def depth_points(settings):
    """Return depths and training sizes for three blocks, on the first of the data sets."""
    data = settings.data[0]
    deep, sizes, seeds = ((1, 2), (50,), 1) if is_smoke(settings) else ((1, 2, 4, 8, 16), (100, 300), 4)
    sizes = [*(size for size in sizes if size < data_set(data).sizes[0]), *[None] * (not is_smoke(settings))]
    own = recipe(settings, data)
    steps = {"batch_size": own["batch_size"], "steps": 6 if is_smoke(settings) else DEPTH_STEPS.get(data, 1000)}
    return [
        {"data": data, "block": block, "depth": depth, "n_train": size, "seed": seed} | steps
        for seed in range(seeds)
        for depth in deep
        for size in sizes
        for block in BLOCKS
    ]


@over(cost_points, phase="train_step", **PRE_LN)
def test_cost(measure_case):
    """Times a training step beside the same without encoding: what a point of accuracy costs."""
    measure_case()


@over(bag_points, phase="bag", pe="none", **TWO)
def test_bag(train_case):
    """Fits logistic regressions and random forests to how often each token comes, without any order."""
    train_case()


@over(pool_points, phase="pool", learning_rate=POOL_RATE, **TWO)
def test_pool(train_case):
    """Trains with each pooling; the one whose worst encoding is best on validation is what later tests take."""
    train_case()


@over(tune_points, phase="tune", **TWO)
def test_tune(train_case):
    """Trains with the other learning rates; the best on validation is what ``test_learn`` takes."""
    train_case()


@over(learn_points, phase="learn", **PRE_LN)
def test_learn(train_case):
    """Trains with every encoding, seed by seed."""
    train_case()


@over(depth_points, phase="depth", pe="learned", learning_rate=DEPTH_RATE, **STACK | RUN)
def test_depth(train_case):
    """Trains deeper and deeper stacks on fewer and fewer examples."""
    train_case()
