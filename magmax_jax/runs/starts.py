"""The next task's start: the last model, theta_0, or a merge of the tasks so far."""

from magmax_jax.config import LAST
from magmax_jax.merging import merged
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.merge_specs import scale_of, start_merge
from magmax_jax.runs.state import RunState
from magmax_jax.training import Params


def next_start(parts: RunParts, at: RunState) -> Params:
    """The parameters from which the task after `at.learned` starts (`method.start`).

        theta_t                                  last
        theta_0                                  pretrained; always for the first task
        theta_0 + scale rule(tau_1 ... tau_t)    RULE[@SCALE]

    Starting from an exponential average is one half of Best-in-TIME, deploying it the other
    (Dziadzio et al., 2024, arXiv 2412.06712). Every call recomputes the merge and caches nothing.
    It shares the compiled program that evaluates the same rule's merges.

    Args:
      at: after a task, including the states; not changed.
    """
    start = start_merge(parts.config)
    if start is not None and at.learned:
        rule = parts.merges[start.name].rule
        theta = merged(rule, at.states[start.name], parts.theta_0, scale_of(start, rule))
        return parts.layout.params(theta)
    return at.theta if parts.config.method.starts_from == LAST else parts.theta_0
