"""The name of a data set that was passed from Python: `arrays:DIGEST`."""

from magmax_jax.errors import UserError

ARRAYS = "arrays"


def array_name(digest: str) -> str:
    """The name under which a configuration records images that were passed from Python."""
    return f"{ARRAYS}:{digest}"


def is_arrays(dataset: str) -> bool:
    """Whether a data set was passed from Python, so it cannot be loaded by name."""
    return dataset.partition(":")[0] == ARRAYS


def must_be_passed(dataset: str) -> UserError:
    """The error for loading such a data set by name."""
    return UserError(
        f"{dataset} was passed from Python, so its images are not on this disk: call mm.run or "
        "mm.evaluate and pass them again as train and test"
    )
