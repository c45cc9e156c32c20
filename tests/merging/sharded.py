"""Every rule on eight devices and on one: run by its test, in a process of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.merging.sharded

The number of CPU devices is fixed when jax starts.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm
from magmax_jax.merging import fold, kth_magnitude, rules
from tests.merging.cases import EVERY

SPECS = {"rows": PartitionSpec("x"), "columns": PartitionSpec(None, "x")}
SHAPE = (64, 48)


def theta(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=SHAPE).astype(np.float32) for name in SPECS}


def main() -> None:
    assert jax.device_count() == 8
    mesh = Mesh(np.array(jax.devices()), "x")

    def spread(tree):
        return {
            name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in tree.items()
        }

    def one(tree):
        return jax.device_put(tree, jax.devices()[0])

    differing = []
    for name, rule in EVERY.items():
        results = []
        for put in (one, spread):
            models = [put(theta(seed)) for seed in (1, 2)]
            if name == "fisher":
                models = [rules.Informed(m, jax.tree.map(abs, m)) for m in models]
            results.append(mm.merge(put(theta(0)), models, rule))
        for leaf in SPECS:
            alone, sharded = (np.asarray(result[leaf]) for result in results)
            if alone.tobytes() != sharded.tobytes():
                differing.append((name, leaf, float(abs(alone - sharded).max())))
    assert not differing, differing

    state = fold(rules.max_magnitude(), spread(theta(0)), spread(theta(1)), spread(theta(2)))
    for name in SPECS:
        assert state[name].sharding.is_equivalent_to(NamedSharding(mesh, SPECS[name]), 2), name
    assert kth_magnitude(spread(theta(0)), 1000) == kth_magnitude(theta(0), 1000)
    print(f"{len(EVERY)} rules give the same bits on 8 devices as on one")


if __name__ == "__main__":
    main()
