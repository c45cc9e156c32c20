"""transformers, imported at its first use: it takes torch along wherever that is installed."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType


def transformers() -> ModuleType:
    """The module, imported without its advice that torch is missing: nothing here needs torch.

    The advice is silenced by transformers' own switch; set the variable to "" to read it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' warnings, such as of a `bos_token_id` beyond the vocabulary."""
    logging = transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
