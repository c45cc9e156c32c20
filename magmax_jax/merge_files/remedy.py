"""Suggests the flag that lets a merge proceed without the tensors that do not fit."""

import shlex
from collections.abc import Sequence

from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import compare, patterns
from magmax_jax.merge_files.job import Job

FEW = 6
"""Most patterns suggested in a message."""


def remedy(
    pretrained: TensorFiles, models: Sequence[TensorFiles], merged: Sequence[str], job: Job
) -> str:
    """The flag that leaves out every tensor that does not fit, if any is left to merge."""
    ours = pretrained.tensors
    lacking = {name for model in models for name in merged if name not in model.tensors}
    extra = {name for model in models for name in model.tensors if name not in ours}
    unlike = {
        name
        for model in models
        for name in merged
        if name in model.tensors and not compare.fits(name, pretrained, model)
    }
    odd = lacking | extra | unlike
    rest = [name for name in merged if name not in odd]
    if not odd or not rest:
        return ""
    excluded = patterns.covering(odd, rest)
    included = patterns.covering(rest, odd | ours.keys() - set(rest))
    # If models have one tower of several, naming it is shorter than naming all the others.
    shorter = len(included) < len(excluded) and len(excluded) > 2
    if unlike or job.include or job.exclude or not shorter:
        flag, found = "--exclude", [*job.exclude, *excluded]
    else:
        flag, found = "--include", included
    if len(found) > FEW:
        return ""
    return f"to merge the rest, give {flag} {' '.join(map(shlex.quote, found))}"
