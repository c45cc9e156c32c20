"""What a function hands to an accelerator, read from StableHLO; needs no accelerator."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun

PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}
"""Platforms to lower for, and the name that `jax.default_backend` gives each."""
CALLS = {
    "cuda": {
        "__cudnn$fmhaSoftmax",
        "__cudnn$fmhaSoftmaxBackward",
        "cusolver_gesvd_ffi",
        "cusolver_gesvdj_ffi",
        "cusolver_geqrf_ffi",
        "cusolver_orgqr_ffi",
    },
    "tpu": {"Eigh", "Qr", "ProductOfElementaryHouseholderReflectors"},
}
"""Device kernels that our programs may call by name: attention, decompositions."""

HOST = re.compile(
    r"pinned_host|device_host|annotate_device_placement|stablehlo\.(?:infeed|outfeed|send|recv)\b"
)
ARGUMENT = re.compile(r"%arg\d+: tensor<([^>]*)>(?: \{(.*?)\})?(?=, %arg|\) ->|\) \{)")
BYTES = {"i1": 1, "i8": 1, "ui8": 1, "bf16": 2, "i32": 4, "ui32": 4, "f32": 4}


@dataclass(frozen=True)
class Program:
    """One jitted function as the compiler gets it.

    Attributes:
      name: the function's name.
      platform: target of the lowering.
      text: StableHLO.
    """

    name: str
    platform: str
    text: str

    def count(self, operation: str) -> int:
        return self.text.count(operation)

    @property
    def forbidden(self) -> set[str]:
        """What our programs for accelerators must not contain.

        Arrays and transfers on the host; kernels outside the platform's `CALLS`, such as LAPACK's;
        convolutions; float64. Callbacks into Python already fail to lower.
        """
        calls = set(re.findall(r"custom_call @([\w$.]+)", self.text)) - {"Sharding"}
        found = calls - CALLS[self.platform] | set(HOST.findall(self.text))
        found |= set(re.findall(r"stablehlo\.convolution", self.text))
        return found | set(re.findall(r"[<x](f64)>", self.text))

    @property
    def donated(self) -> int:
        """Bytes of the arguments whose memory the results reuse."""
        (main,) = re.findall(r"func\.func public @main\((.*)", self.text)
        given = ("tf.aliasing_output", "jax.buffer_donor")
        return sum(
            _bytes(shape)
            for shape, facts in ARGUMENT.findall(main)
            if any(fact in facts for fact in given)
        )


def _bytes(shape: str) -> int:
    """Size of a shape such as "12x768xf32"."""
    *sides, dtype = shape.split("x")
    return math.prod(map(int, sides)) * BYTES[dtype]


def tree_bytes(tree: Any) -> int:
    """Total size of all arrays or shapes of a pytree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def shapes(tree: Any) -> Any:
    """The arrays of a pytree as shapes only."""
    return jax.eval_shape(lambda: tree)


def program(platform: str, function: Any, *args: Any) -> Program:
    """A jitted function of arrays or shapes, lowered for a platform."""
    lowered = function.trace(*args).lower(lowering_platforms=(platform,))
    return Program(function.__name__, platform, lowered.as_text())


def programs(platform: str, function: Callable[..., Any], *args: Any) -> list[Program]:
    """The programs that a function of arrays or shapes starts, in order.

    A program that is started again, without a new compilation, is the same object.
    """
    found: dict[int, Program] = {}

    def lowered(eqn: JaxprEqn) -> Program:
        jaxpr = eqn.params["jaxpr"]
        if id(jaxpr) not in found:
            inner = jaxpr_as_fun(jaxpr)
            inner.__name__ = eqn.params["name"]
            donated = [i for i, given in enumerate(eqn.params["donated_invars"]) if given]
            avals = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
            found[id(jaxpr)] = program(platform, jax.jit(inner, donate_argnums=donated), *avals)
        return found[id(jaxpr)]

    traced = jax.make_jaxpr(function)(*args)
    return [lowered(eqn) for eqn in traced.eqns if "donated_invars" in eqn.params]


def product_flops(function: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations of the matrix products: two per multiply-add.

    Kernels called by name are not counted.
    """
    return _flops(jax.make_jaxpr(function)(*args).jaxpr)


def _flops(jaxpr: Jaxpr) -> int:
    return sum(map(_flops_of, jaxpr.eqns))


def _flops_of(eqn: JaxprEqn) -> int:
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    return eqn.params.get("length", 1) * sum(map(_flops, _inner(eqn)))


def _inner(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    kinds = (Jaxpr, ClosedJaxpr)
    for value in jax.tree.leaves(eqn.params, is_leaf=lambda value: isinstance(value, kinds)):
        if isinstance(value, kinds):
            yield value.jaxpr if isinstance(value, ClosedJaxpr) else value
