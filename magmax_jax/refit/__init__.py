"""Fitting the last linear map of a merged model anew, after every task, from sums over its images.

    from magmax_jax.refit import Refit
    from magmax_jax.registry import REFITS

    @REFITS.register("my_refit")
    def my_refit() -> Refit: ...

A merge `RULE+my_refit@SCALE` of a run is then the rule's, with its last map fitted so.
"""

from magmax_jax.refit.base import Features, Refit

__all__ = ["Features", "Refit"]
