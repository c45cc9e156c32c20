"""The analyses on eight devices and on one; its test runs it in a separate process.

    NPROC=64 XLA_FLAGS="--xla_force_host_platform_device_count=8 --xla_dump_to=DIRECTORY" \
        JAX_ENABLE_COMPILATION_CACHE=false python -m tests.analysis.sharded DIRECTORY

The number of CPU devices is fixed when jax starts.
"""

import math
import re
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from magmax_jax.analysis import cka, inner_products, keep, sign_conflicts, supplied
from magmax_jax.merging import rules
from magmax_jax.merging.rules.elementwise import Sourced
from tests.analysis.cases import flat, part, task_vector

KEPT = (1.0, 0.2)
EXCHANGE = re.compile(r"\[([\d,]*)\][^ ]* (all-gather|all-to-all|collective-permute)\(")
EXPLICIT = AxisType.Explicit
RULE = rules.max_magnitude(provenance=True)


def spread(tau: dict, kinds: tuple[AxisType, AxisType] = (AxisType.Auto,) * 2) -> dict:
    """Shards matrices over both axes of a mesh; everything else is replicated."""
    mesh = jax.make_mesh((jax.device_count() // 2, 2), ("rows", "columns"), kinds)

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
        assert ours["blocks"]["kernel"].sharding == where, choice
    ours, theirs = (inner_products(taus.__getitem__, 3) for taus in (pieces, alone))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * theirs.max())
    batch = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    mesh = pieces[0]["head"].sharding.mesh
    rows = NamedSharding(mesh, PartitionSpec("rows"))
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


def nothing_is_gathered(pieces: list[dict], dump: Path) -> None:
    """In the compiled programs devices exchange one sum each, never leaves."""
    list(sign_conflicts(pieces, KEPT, part))
    inner_products(pieces.__getitem__, 3)
    list(supplied(merged(pieces), stacked))
    for choice in ("largest", "smallest", "random"):
        jax.block_until_ready(keep(pieces[0], 0.2, choice))
    programs = [
        path
        for path in dump.glob("*after_optimizations.txt")
        if "kth_magnitude" not in path.name  # merging's threshold search takes a small sample
    ]
    assert len(programs) > 6, programs
    for program in programs:
        for shape, exchange in EXCHANGE.findall(program.read_text()):
            size = math.prod(map(int, filter(None, shape.split(","))))
            assert size <= 8, f"{program.name} moves {size} entries by {exchange}"


def main() -> None:
    assert jax.device_count() == 8
    alone = [task_vector(seed) for seed in range(3)]
    pieces = [spread(tau) for tau in alone]
    nothing_is_gathered(pieces, Path(sys.argv[1]))
    same_numbers(alone, pieces)
    for kinds in (EXPLICIT, EXPLICIT), (EXPLICIT, AxisType.Auto):
        same_numbers(alone, [spread(tau, kinds) for tau in alone])
    print("the same numbers on 8 devices as on one")


if __name__ == "__main__":
    main()
