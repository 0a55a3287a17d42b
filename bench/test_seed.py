"""The original experiment (``--preset seed`` only): epoch seconds over length, mean absolute gradients over depth."""

from attnlib.cases import workload
from attnlib.gradients.probes import gradient_by_place
from attnlib.plugin import over


def points(settings):
    """Its experiment 1 (lengths at one depth) and experiment 2 (depths at one length)."""
    cells = [(T, settings.fixed_depth) for T in settings.seq_lens]
    cells += [(settings.fixed_seq_len, L) for L in settings.depths]
    return [{"seq_len": T, "depth": L, "pe": pe} for T, L in dict.fromkeys(cells) for pe in settings.pe]


@over(points, phase="epoch")
def test_seed(measure_case, benchmark, settings):
    """Reads the gradients of a first batch where the original read them, then times an epoch of a fresh model."""

    def build(case):
        work = workload.Workload(case)
        work.build_graph()
        work.backward()
        benchmark.extra_info["probe"] = {"gradients": gradient_by_place(work.model)}
        del work
        return workload.build(case, settings.num_texts)

    measure_case(build)
