"""Merge rules under their short name: `import magmax_jax.rules`, or `mm.rules`.

`dir(mm.rules)` and tab completion show the rules alone, those that you register among them. The
rest of `magmax_jax.merging.rules` is here, too: `named` and `options` of a rule by its name,
`register` for one of your own, and what authors of rules need (`magmax_jax.merging` shows that).
"""

from typing import Any

from magmax_jax.merging.rules import *  # noqa: F403
from magmax_jax.merging.rules import __all__ as __all__
from magmax_jax.registry import RULES


def __getattr__(name: str) -> Any:
    """Rules that were registered since."""
    if name in RULES:
        return RULES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for name in RULES if name.isidentifier())
