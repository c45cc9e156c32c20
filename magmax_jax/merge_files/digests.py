"""sha256s of a merge's sources, which show whether a state may be continued with them."""

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor

from magmax_jax.merge_files import model_card
from magmax_jax.merge_files.plan import Plan

HASHERS = 2
"""Threads that compute sha256s beside the merge: one takes longer than merging does."""
Digests = list[Future[str]]


def start_digests(plan: Plan, pool: ThreadPoolExecutor) -> Digests:
    """sha256 of theta_0 and of every model, in the background; none where none are wanted."""
    wanted = (plan.pretrained, *plan.models) if plan.job.checksums else ()
    return [pool.submit(model_card.digest, files) for files in wanted]


def compared_with_state(plan: Plan, digests: Digests | None = None) -> Plan:
    """The plan, with what the sha256s rule out among its problems.

    The state must have been begun with this theta_0, and hold none of the models. A plan with
    problems, or without a state, is returned as it is.

    Args:
      digests: of its sources, if they are computed already.

    Raises:
      UserError: a source cannot be read.
    """
    if plan.state is None or plan.problems:
        return plan
    if digests is None:
        with ThreadPoolExecutor(HASHERS) as pool:
            return compared_with_state(plan, start_digests(plan, pool))
    if not digests:
        return plan
    (first, *rest), history, path, problems = digests, plan.history, plan.job.state, []
    if history.sha256 and first.result() != history.sha256:
        problems.append(
            f"{history.pretrained} is not the theta_0 with which {path} was begun: its "
            "weights have changed since; bring them back or begin another state"
        )
    tasks = enumerate(history.tasks, start=1)
    earlier = {task.sha256: i for i, task in tasks if task.sha256}
    for source, future in zip(plan.job.finetuned, rest, strict=True):
        if earlier and future.result() in earlier:
            number = earlier[future.result()]
            problems.append(f"{source} is in this state already, as task {number}: leave it out")
    return dataclasses.replace(plan, problems=problems)
