"""sha256s of a merge's sources, which decide whether a state may be continued with them."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from magmax_jax.io.safetensors.digest import Digest
from magmax_jax.merge_files.plan import Plan

HASHERS = 2
"""Threads that read bytes not yet fed to the digests: a single one is slower than the merge."""


def digests_of(plan: Plan) -> list[Digest]:
    """sha256 of theta_0 and of every model; empty if none are needed.

    Each is over the weight files, concatenated in name order.

    Raises:
      UserError: a file no longer exists.
    """
    wanted = (plan.pretrained, *plan.models) if plan.job.checksums else ()
    return [Digest(sorted(files.files)) for files in wanted]


def finished(digests: Sequence[Digest], pool: ThreadPoolExecutor) -> list[Future[str]]:
    """The sha256s, available once the rest of the files was read in the background."""
    return [pool.submit(digest.result) for digest in digests]


def compared_with_state(plan: Plan, digests: Sequence[Future[str]] | None = None) -> Plan:
    """The plan, with any sha256 conflicts added to its problems.

    The state must have been started with this theta_0, and hold none of the models. A plan with
    problems, or without a state, is returned unchanged.

    Args:
      digests: of its sources, if already computed.

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
            f"{history.pretrained} is not the theta_0 with which {path} was created: its weights "
            "have changed since; restore them or start a new state"
        )
    tasks = enumerate(history.tasks, start=1)
    earlier = {task.sha256: i for i, task in tasks if task.sha256}
    for source, future in zip(plan.job.finetuned, rest, strict=True):
        if earlier and future.result() in earlier:
            number = earlier[future.result()]
            problems.append(f"{source} is already in this state, as task {number}: leave it out")
    return dataclasses.replace(plan, problems=problems)
