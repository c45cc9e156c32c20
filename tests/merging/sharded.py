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


def theta(seed: int) -> dict[str, np.ndarray]:
    return {"w": np.random.default_rng(seed).normal(size=(128, 48)).astype(np.float32)}


def main() -> None:
    assert jax.device_count() == 8
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("rows", "columns"))
    sharding = NamedSharding(mesh, PartitionSpec("rows", "columns"))

    def merge(name, place):
        theta_0, *models = (jax.device_put(theta(seed), place) for seed in range(3))
        if name == "fisher":
            models = [rules.Informed(model, jax.tree.map(abs, model)) for model in models]
        merged, _ = mm.merge(theta_0, models, EVERY[name], return_state=True)
        return np.asarray(merged["w"])

    differing = {}
    for name in EVERY:
        alone, sharded = merge(name, jax.devices()[0]), merge(name, sharding)
        if alone.tobytes() != sharded.tobytes():
            differing[name] = float(abs(alone - sharded).max())
    assert not differing, differing

    spread = [jax.device_put(theta(seed), sharding) for seed in range(3)]
    state = fold(rules.max_magnitude(), *spread)
    assert state["w"].sharding.is_equivalent_to(sharding, 2), state["w"].sharding
    assert kth_magnitude(spread[1], 1000) == kth_magnitude(theta(1), 1000)
    print(f"{len(EVERY)} rules give the same bits on 8 devices as on one")


if __name__ == "__main__":
    main()
