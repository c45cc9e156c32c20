"""Updates refitted merges with one more task, or recomputes them from what a run has kept."""

from collections.abc import Mapping

from magmax_jax.merging import fold, merged
from magmax_jax.merging.rule import informed
from magmax_jax.runs.build import RunParts
from magmax_jax.runs.merge_specs import Merge, Refitted
from magmax_jax.runs.model_ref import ModelRef
from magmax_jax.runs.model_store import ModelStore
from magmax_jax.runs.refits import RefitState, RefitStates, Refitter, beginning, labels
from magmax_jax.runs.state import RunState
from magmax_jax.training import Params


def plain_models(parts: RunParts, at: RunState) -> dict[str, Params]:
    """The merges before they are refitted, by name with the scale; {} before the first task."""
    if not at.learned:
        return {}
    return {
        label: merged(
            parts.merges[refitted.rule].rule, at.states[refitted.rule], parts.theta_0, scale
        )
        for label, (refitted, scale) in labels(parts.refits).items()
    }


def refit(
    refitter: Refitter, before: Mapping[str, Params], parts: RunParts, at: RunState
) -> RefitStates:
    """The states of refitted merges after the task just learned.

    Args:
      before: `plain_models` before that task.
    """
    after = plain_models(parts, at)
    return {
        label: refitter.learn(
            at.learned, label, refitted, at.refits[label], before.get(label), after.pop(label)
        )
        for label, (refitted, _) in labels(parts.refits).items()
    }


def refit_again(
    name: str,
    refitted: Refitted,
    merge: Merge,
    scale: float,
    stored: ModelStore,
    parts: RunParts,
    refitter: Refitter,
) -> RefitState:
    """The state of a refitted merge at another scale, from the run's task models and images.

    Args:
      name: without the scale, for display.
      merge: the merge to refit.
      stored: the run's models, including every task's.

    Raises:
      UserError: a task's model is missing, or its moments if the rule needs them.
    """
    rule, theta_0, label = merge.rule, parts.theta_0, str(ModelRef(name, scale))
    one = {name: refitted._replace(scales=[scale])}
    state = beginning(one, theta_0, parts.head.shape[1])[label]
    of_rule, before = parts.layout.params(rule.init(theta_0)), None
    for task in range(1, stored.learned + 1):
        moments = stored.moments(task, {refitted.rule: merge})
        of_rule = fold(rule, of_rule, informed(rule, stored.task(task), moments), theta_0)
        after = merged(rule, of_rule, theta_0, scale)
        state = refitter.learn(task, label, refitted, state, before, after)
        before = after
    return state
