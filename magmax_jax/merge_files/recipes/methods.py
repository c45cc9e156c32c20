"""mergekit's merge methods: their parameters, and the rules here that compute the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from magmax_jax.merge_files.recipes.settings import Key
from magmax_jax.registry import Registry

Base = Literal["required", "optional", "member"]
Values = Mapping[str, Any]
"""Resolved parameters: a value, or a tuple of one for each model."""


@dataclass(frozen=True)
class Method:
    """A merge method that recipes can name.

    Attributes:
      summary: what it computes.
      keys: its parameters.
      base: whether `base_model` is "required" or "optional"; it is then theta_0 and has no weight
        itself. Or a "member": one more model, with a weight.
      fewest, most: numbers of models besides `base_model`, or with it if it is a member.
      rule: (values, whether theta_0 is one of the models) -> name and options of the rule.
    """

    summary: str
    keys: tuple[Key, ...]
    base: Base
    rule: Callable[[Values, bool], tuple[str, dict[str, Any]]]
    fewest: int = 1
    most: int | None = None


METHODS: Registry[Method] = Registry("merge method that recipes can name", {})
"""Methods of mergekit 0.1.5 by its names for them."""
OTHERS = ("karcher", "arcee_fusion", "passthrough", "nearswap", "ram", "ramplus_tl")
"""Its methods that are not supported here."""

WEIGHT = Key("weight", float, per_model=True)
INT8_MASK = Key("int8_mask", bool, default=False, unused=True)


def _of_task_vectors(
    summary: str,
    thin: str = "nothing",
    consensus: bool = False,
    normalize: bool = False,
    rescale: bool = False,
    extra: tuple[Key, ...] = (),
) -> Method:
    """A method of the family of `rules.sparse_task_arithmetic`."""
    thins = thin != "nothing"
    floor = 0.0 if thin in ("magnitude", "ranked") else None  # they take negative densities for 0

    def rule(values: Values, whole: bool) -> tuple[str, dict[str, Any]]:
        options = {
            "weights": values["weight"],
            "thin": thin,
            "densities": tuple(
                density if floor is None else max(density, floor) for density in values["density"]
            ),
            "rescale": values["rescale"] and thins,
            "consensus": consensus,
            "normalize": values["normalize"],
            "factor": values["lambda"],
        }
        options |= {f"{key.name}s": values[key.name] for key in extra}
        return "sparse_task_arithmetic", options

    keys = (
        WEIGHT,
        Key("density", float, per_model=True, default=1.0, unused=not thins),
        *extra,
        Key("normalize", bool, default=normalize),
        Key("rescale", bool, default=rescale, unused=not thins),
        Key("lambda", float, default=1.0),
        INT8_MASK,
    )
    return Method(summary, keys, "required", rule)


GAMMA = Key("gamma", float, per_model=True, default=0.01)
EPSILON = Key("epsilon", float, per_model=True, default=0.15)

for name, method in {
    "task_arithmetic": _of_task_vectors("The weighted sum of the changes from base_model."),
    "ties": _of_task_vectors(
        "The mean of each model's largest changes that agree on the sign.",
        "magnitude",
        consensus=True,
        normalize=True,
    ),
    "dare_linear": _of_task_vectors("The sum of randomly thinned changes.", "random", rescale=True),
    "dare_ties": _of_task_vectors(
        "The sum of randomly thinned changes that agree on the sign.",
        "random",
        consensus=True,
        rescale=True,
    ),
    "breadcrumbs": _of_task_vectors(
        "The sum of changes that are neither small nor largest.", "outliers", extra=(GAMMA,)
    ),
    "breadcrumbs_ties": _of_task_vectors(
        "The sum of changes that are neither small nor largest and agree on the sign.",
        "outliers",
        consensus=True,
        extra=(GAMMA,),
    ),
    "della": _of_task_vectors(
        "The mean of changes, thinned at random by rank, that agree on the sign.",
        "ranked",
        consensus=True,
        normalize=True,
        rescale=True,
        extra=(EPSILON,),
    ),
    "della_linear": _of_task_vectors(
        "The sum of changes thinned at random by rank.", "ranked", rescale=True, extra=(EPSILON,)
    ),
}.items():
    METHODS.register(name, method)

METHODS.register(
    "linear",
    Method(
        "The weighted mean of the models, base_model among them.",
        (WEIGHT, Key("normalize", bool, default=True)),
        "member",
        lambda values, whole: (
            "linear_combination",
            {"weights": values["weight"], "normalize": values["normalize"]},
        ),
        fewest=2,
    ),
)
METHODS.register(
    "slerp",
    Method(
        "The point at t of the arc from base_model to the other model, of whole weights.",
        (Key("t", float),),
        "required",
        lambda values, whole: ("slerp", {"t": values["t"], "whole": True}),
        most=1,
    ),
)


def _nuslerp(values: Values, whole: bool) -> tuple[str, dict[str, Any]]:
    rows = "columns" if values["nuslerp_row_wise"] else "rows"
    angles = "tensor" if values["nuslerp_flatten"] else rows
    return "nuslerp", {"weights": values["weight"], "whole": whole, "angles": angles}


METHODS.register(
    "nuslerp",
    Method(
        "A point of the arc between two models, or between their changes from base_model.",
        (
            WEIGHT,
            Key("nuslerp_flatten", bool, default=True),
            Key("nuslerp_row_wise", bool, default=False),
        ),
        "optional",
        _nuslerp,
        fewest=2,
        most=2,
    ),
)
METHODS.register(
    "multislerp",
    Method(
        "The weighted mean direction, at the weighted mean length.",
        (
            WEIGHT,
            Key("normalize_weights", bool, default=True),
            Key("eps", float, default=1e-8),
        ),
        "optional",
        lambda values, whole: (
            "multislerp",
            {
                "weights": values["weight"],
                "whole": whole,
                "normalize": values["normalize_weights"],
                "eps": values["eps"],
            },
        ),
    ),
)
METHODS.register(
    "model_stock",
    Method(
        "The mean change, shrunk the more the models disagree.",
        (Key("filter_wise", bool, default=False),),
        "required",
        lambda values, whole: ("model_stock", {"least": 1e-6, "by_row": values["filter_wise"]}),
        fewest=2,
    ),
)
METHODS.register(
    "sce",
    Method(
        "The most varied changes that agree on the sign, weighted by energy.",
        (Key("select_topk", float, default=1.0), INT8_MASK),
        "required",
        lambda values, whole: ("sce", {"select_topk": max(values["select_topk"], 0.0)}),
    ),
)
del name, method
