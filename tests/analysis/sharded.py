"""The analyses on eight devices and on one: run by its test, in a process of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.analysis.sharded

The number of CPU devices is fixed when jax starts.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from magmax_jax.analysis import cka, inner_products, keep, sign_conflicts, signs, supplied
from magmax_jax.analysis.cosine import _inners
from magmax_jax.analysis.leaves import named_leaves
from magmax_jax.analysis.provenance import _of_task
from magmax_jax.analysis.pruning import _draws, _kept
from magmax_jax.analysis.signs import _counts, _update
from magmax_jax.merging import rules
from magmax_jax.merging.rule import leaf_key
from magmax_jax.merging.rules.elementwise import Sourced
from tests.analysis.cases import flat, part, task_vector

KEPT = (1.0, 0.2)
EXCHANGE = re.compile(r"\[([\d,]*)\][^ ]* (all-gather|all-to-all|collective-permute)\(")
RULE = rules.max_magnitude(provenance=True)


def spread(tau: dict) -> dict:
    """Matrices in pieces over both axes of a mesh, everything else whole on every device."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("rows", "columns"))

    def place(leaf):
        split = np.size(leaf) > 100
        spec = (*(None,) * (np.ndim(leaf) - 2), "rows", "columns") if split else ()
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

    return jax.tree.map(place, tau)


def stacked(name: str) -> bool:
    return name.startswith("blocks")


def merged(taus: list[dict]) -> Sourced:
    state = RULE.init(taus[0])
    for tau in taus:
        state = jax.jit(RULE.update)(state, tau)
    return state


def same_numbers(alone: list[dict], pieces: list[dict]) -> None:
    assert list(sign_conflicts(pieces, KEPT, part)) == list(sign_conflicts(alone, KEPT, part))
    for choice in ("largest", "smallest", "random"):
        ours, theirs = keep(pieces[0], 0.2, choice), keep(alone[0], 0.2, choice)
        np.testing.assert_array_equal(flat(ours), flat(theirs))
        where = pieces[0]["blocks"]["kernel"].sharding
        assert ours["blocks"]["kernel"].sharding.is_equivalent_to(where, 3), choice
    ours, theirs = (inner_products(taus.__getitem__, 3) for taus in (pieces, alone))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * theirs.max())
    batch = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    found = [
        cka.finalize(cka.update(cka.init(8, 8), x, x**2))
        for x in (jax.device_put(batch, rows), batch)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)
    for one, other in zip(
        *(supplied(merged(taus), stacked) for taus in (pieces, alone)), strict=True
    ):
        assert one[:-1] == other[:-1]
        np.testing.assert_allclose(one.squared_norm, other.squared_norm, rtol=1e-6)


def nothing_is_gathered(pieces: list[dict]) -> None:
    """Devices exchange a sum each, never leaves, as the compiled programs say."""
    leaves, levels = named_leaves(pieces[0]), signs.init(pieces[0])
    keys = {name: leaf_key(0, 0, name) for name in leaves}
    assert levels.plus["head"].sharding.is_equivalent_to(leaves["head"].sharding, 2)
    for function, *arguments in [
        (_update, levels, leaves, jnp.ones(2)),
        (_counts, levels, 2),
        (_inners, leaves, leaves),
        (_of_task, merged(pieces), jnp.uint8(1), frozenset(filter(stacked, leaves))),
        (_draws, leaves, keys),
        (_kept, pieces[0], leaves, jnp.float32(1), False),
    ]:
        program = function.lower(*arguments).compile().as_text()
        for shape, exchange in EXCHANGE.findall(program):
            size = math.prod(map(int, filter(None, shape.split(","))))
            assert size <= 8, f"{function} moves {size} entries by {exchange}"


def main() -> None:
    assert jax.device_count() == 8
    alone = [task_vector(seed) for seed in range(3)]
    pieces = [spread(tau) for tau in alone]
    same_numbers(alone, pieces)
    nothing_is_gathered(pieces)
    print("the same numbers on 8 devices as on one")


if __name__ == "__main__":
    main()
