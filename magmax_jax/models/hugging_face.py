"""transformers, imported at its first use: it takes torch along wherever that is installed."""

import os
from types import ModuleType


def transformers() -> ModuleType:
    """The module, imported without its advice that torch is missing: nothing here needs torch.

    The advice is silenced by transformers' own switch; set the variable to "" to read it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    return transformers
