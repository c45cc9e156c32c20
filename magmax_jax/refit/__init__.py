"""Refits the last linear map of a merged model after every task, from sums over its images.

    from magmax_jax.refit import Refit
    from magmax_jax.registry import REFITS

    @REFITS.register("my_refit")
    def my_refit() -> Refit: ...

In a run, the merge `RULE+my_refit@SCALE` is then the rule's merge with a refitted last map.
"""

from magmax_jax.refit.base import Features, Refit

__all__ = ["Features", "Refit"]
