"""Every rule on a mesh as on one device; its tests run it in a separate process.

    export NPROC=64 XLA_FLAGS=--xla_force_host_platform_device_count=8
    python -m tests.merging.sharded WAYS RULE ...

Without a RULE, all are tried. WAYS are `merge`, `functions` (the rule's own) and `jit` (these in
the caller's jit), joined by commas. The number of CPU devices is fixed when jax starts. Meshes use
all devices, with axes that are Auto, Explicit, or one of each.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm
from magmax_jax.merging import MergeRule, rules
from magmax_jax.registry import RULES
from tests.merging.cases import EVERY

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
MESHES = {"Auto": (AUTO,), "Explicit": (EXPLICIT,), "mixed": (EXPLICIT, AUTO)}
SPECS = {"rows": ("x", "y"), "stack": (None, "y", "x")}


def theta(seed: int) -> dict[str, np.ndarray]:
    """Sharded leaves, one that does not divide among devices, and one that is not merged."""
    random = np.random.default_rng(seed)
    shapes = {"rows": (128, 16), "stack": (2, 8, 16), "odd": (7, 5)}
    leaves = {name: np.float32(random.normal(size=shape)) for name, shape in shapes.items()}
    return leaves | {"steps": np.int32(seed)}


def mesh_of(*kinds: AxisType) -> Mesh:
    devices = jax.device_count()
    shape = (devices,) if len(kinds) == 1 else (max(devices // 2, 1), min(devices, 2))
    return jax.make_mesh(shape, ("x", "y")[: len(kinds)], kinds)


def spread(tree: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    def sharding(name: str) -> NamedSharding:
        axes = (axis if axis in mesh.axis_names else None for axis in SPECS.get(name, ()))
        return NamedSharding(mesh, PartitionSpec(*axes))

    return {name: jax.device_put(leaf, sharding(name)) for name, leaf in tree.items()}


def every_rule() -> dict[str, MergeRule]:
    """The rules of the other tests, plus the remaining ones with their defaults."""
    tried = {name for name in RULES if any(name in case for case in EVERY)}
    return EVERY | {name: RULES[name]() for name in RULES if name not in tried}


def models(rule: MergeRule, place: Callable[[dict], dict]) -> tuple[dict, list]:
    theta_0, *thetas = (place(theta(seed)) for seed in range(1 + (rule.most_models or 3)))
    if rule.needs_fisher:
        return theta_0, [rules.Informed(each, jax.tree.map(abs, each)) for each in thetas]
    return theta_0, thetas


def merge(rule: MergeRule, theta_0: dict, thetas: list) -> tuple[None, dict]:
    return None, mm.merge(theta_0, thetas, rule)


def functions(rule: MergeRule, theta_0: dict, thetas: list) -> tuple[Any, dict]:
    """The rule's state and the merged model."""
    state = rule.init(theta_0)
    for each in thetas:
        if rule.needs_fisher:
            tau = each._replace(params=mm.task_vector(each.params, theta_0))
        else:
            tau = mm.task_vector(each, theta_0)
        state = rule.update(state, tau)
    return state, mm.apply_task_vector(theta_0, rule.finalize(state), rule.default_scale)


WAYS = {"merge": merge, "functions": functions, "jit": jax.jit(functions, static_argnums=0)}


def misplaced(tree: Any, theta_0: dict) -> list[str]:
    """Leaves with theta_0's names and shapes that are placed differently from theta_0's."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = next((key.key for key in path if isinstance(key, jax.tree_util.DictKey)), "")
        like = theta_0.get(name)
        if like is not None and leaf.shape == like.shape and not same_place(leaf, like):
            found.append(f"{jax.tree_util.keystr(path)} on {leaf.sharding}")
    return found


def same_place(leaf: jax.Array, like: jax.Array) -> bool:
    """Compares specs by meaning: `P('x')` equals `P('x', None)`."""
    mesh = leaf.sharding.mesh == like.sharding.mesh
    return mesh and leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)


def bits(tree: dict) -> dict[str, bytes]:
    return {name: np.asarray(leaf).tobytes() for name, leaf in tree.items()}


def faults(rule: MergeRule, way: str) -> Iterator[str]:
    run = WAYS[way]
    alone = bits(run(rule, *models(rule, dict))[1])
    for kind, axes in MESHES.items():
        if way == "jit" and EXPLICIT not in axes:
            continue  # inside a user's jit the compiler places arrays with Auto axes
        given = models(rule, partial(spread, mesh=mesh_of(*axes)))
        result = run(rule, *given)
        merged = bits(result[1])
        if wrong := [name for name in alone if merged[name] != alone[name]]:
            yield f"{kind}, {way}: other bits in {wrong}"
        if (way != "jit" or AUTO not in axes) and (wrong := misplaced(result, given[0])):
            yield f"{kind}, {way}: {wrong}"


def main(ways: list[str], names: list[str]) -> None:
    chosen = {name: rule for name, rule in every_rule().items() if not names or name in names}
    differing = {}
    for name, rule in chosen.items():
        shown = []
        for way in ways:
            start = time.perf_counter()
            if found := list(faults(rule, way)):
                differing[name] = found
            shown.append(f"{'other' if found else 'same'} {time.perf_counter() - start:6.1f} s")
        print(f"{name:18} {'   '.join(shown)}", flush=True)
    assert not differing, differing
    print(f"{len(chosen)} rules give the same bits on {jax.device_count()} devices as on one")


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2:])
