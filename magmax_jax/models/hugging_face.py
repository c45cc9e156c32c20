"""Lazy import of transformers, which imports torch, too, if that is installed."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType


def transformers() -> ModuleType:
    """The module, imported without its warning that torch is missing: nothing here needs torch.

    transformers' own switch silences the warning; set the variable to "" to see it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' warnings, e.g. about a `bos_token_id` outside the vocabulary."""
    logging = transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
