"""sha256s of a merge's sources, which show whether a state may be continued with them."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from magmax_jax.io.safetensors.digest import Digest
from magmax_jax.merge_files.plan import Plan

HASHERS = 2
"""Threads that read what nobody gave to the digests: one takes longer than merging does."""


def digests_of(plan: Plan) -> list[Digest]:
    """sha256 of theta_0 and of every model; none where none are wanted.

    Each is of the weight files, one after another in the order of their names.

    Raises:
      UserError: a file is not there any more.
    """
    wanted = (plan.pretrained, *plan.models) if plan.job.checksums else ()
    return [Digest(sorted(files.files)) for files in wanted]


def finished(digests: Sequence[Digest], pool: ThreadPoolExecutor) -> list[Future[str]]:
    """The sha256s, once what is left of the files was read in the background."""
    return [pool.submit(digest.result) for digest in digests]


def compared_with_state(plan: Plan, digests: Sequence[Future[str]] | None = None) -> Plan:
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
            return compared_with_state(plan, finished(digests_of(plan), pool))
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
