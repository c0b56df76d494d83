"""The metrics of runs and of comparisons, as pure functions of frames; ``docs/metrics.md`` defines each of them.

Example::

    import emulator
    from emulator.analysis import Question, compare

    compared = compare(emulator.load("runs/study"), Question(target=0.8), baseline="fedlora")
    print(compared.groups)
"""

from emulator.analysis.comparison import Comparison, compare
from emulator.analysis.costs import COSTS, best_score, cost_to_target, final_score, score_within, spent, total
from emulator.analysis.devices import idle_fraction, lost_device_rounds, mean_waiting_s, peak_memory_bytes
from emulator.analysis.heterogeneity import heterogeneity
from emulator.analysis.metrics import METRICS, Metric, Question, measure
from emulator.analysis.statistics import Estimate, mean_over_seeds, paired_ratio, t_quantile

__all__ = [
    "COSTS",
    "METRICS",
    "Comparison",
    "Estimate",
    "Metric",
    "Question",
    "best_score",
    "compare",
    "cost_to_target",
    "final_score",
    "heterogeneity",
    "idle_fraction",
    "lost_device_rounds",
    "mean_over_seeds",
    "mean_waiting_s",
    "measure",
    "paired_ratio",
    "peak_memory_bytes",
    "score_within",
    "spent",
    "t_quantile",
    "total",
]
