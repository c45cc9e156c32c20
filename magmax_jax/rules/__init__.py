"""Short import path for merge rules: `import magmax_jax.rules`, or `mm.rules`.

`dir(mm.rules)` and tab completion list only the rules, including those you register. The rest of
`magmax_jax.merging.rules` is here as well: `named` and `options` to look up a rule by name,
`register` for your own, and what rule authors need (listed by `magmax_jax.merging`).
"""

from typing import Any

from magmax_jax.merging.rules import *  # noqa: F403
from magmax_jax.merging.rules import __all__ as __all__
from magmax_jax.registry import RULES


def __getattr__(name: str) -> Any:
    """Rules registered later."""
    if name in RULES:
        return RULES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for name in RULES if name.isidentifier())
