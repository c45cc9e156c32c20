"""Every rule on a mesh as on one device: run by its test, in a process of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.merging.sharded [quick]

The number of CPU devices is fixed when jax starts. Meshes have all of them, with axes that are
Auto, Explicit or one of each. `quick` tries Explicit ones only.
"""

import sys
import time

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm
from magmax_jax.merging import MergeRule, rules
from magmax_jax.registry import RULES
from tests.merging.cases import EVERY

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
Tree = dict[str, np.ndarray]


def theta(seed: int) -> Tree:
    """Of every kind of leaf one, and one of each side that does not divide among devices."""
    random = np.random.default_rng(seed)
    shapes = {"rows": (128, 16), "columns": (6, 16), "stack": (3, 8, 16), "odd": (7, 5)}
    shapes |= {"bias": (16,), "gain": ()}
    leaves = {name: np.float32(random.normal(size=shape)) for name, shape in shapes.items()}
    return leaves | {"steps": np.int32(seed)}


def mesh_of(*kinds: AxisType) -> Mesh:
    devices = jax.device_count()
    shape = (devices,) if len(kinds) == 1 else (max(devices // 2, 1), min(devices, 2))
    return jax.make_mesh(shape, ("x", "y")[: len(kinds)], kinds)


def spread(tree: Tree, mesh: Mesh) -> dict[str, jax.Array]:
    last = mesh.axis_names[-1]
    specs = {"rows": ("x", last if last == "y" else None), "columns": (None, "x"), "bias": ("x",)}
    specs |= {"stack": (None, last)}
    return {
        name: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*specs.get(name, ()))))
        for name, leaf in tree.items()
    }


def every_rule() -> dict[str, MergeRule]:
    """Those of the tests, and of the registry whatever they leave out, with its defaults."""
    tried = {name for name in RULES if any(name in case for case in EVERY)}
    return EVERY | {name: RULES[name]() for name in RULES if name not in tried}


def models(rule: MergeRule, place) -> tuple:
    theta_0, *thetas = (place(theta(seed)) for seed in range(1 + (rule.most_models or 3)))
    if rule.needs_fisher:
        thetas = [rules.Informed(each, jax.tree.map(abs, each)) for each in thetas]
    return theta_0, thetas


def by_hand(rule: MergeRule, theta_0, thetas):
    """The merge of someone who calls a rule's functions: its state and the merged model."""
    state = rule.init(theta_0)
    for each in thetas:
        if rule.needs_fisher:
            tau = each._replace(params=mm.task_vector(each.params, theta_0))
        else:
            tau = mm.task_vector(each, theta_0)
        state = rule.update(state, tau)
    return state, mm.apply_task_vector(theta_0, rule.finalize(state), rule.default_scale)


def check_places(tree, theta_0, what: str) -> None:
    """Every leaf of theta_0's shape and name is where theta_0's is."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = next((k.key for k in reversed(path) if isinstance(k, jax.tree_util.DictKey)), None)
        if name in theta_0 and leaf.shape == theta_0[name].shape:
            assert leaf.sharding == theta_0[name].sharding, (what, path, leaf.sharding)


def bits(tree) -> dict[str, bytes]:
    return {name: np.asarray(leaf).tobytes() for name, leaf in tree.items()}


def main(quick: bool) -> None:
    meshes = {"Explicit": mesh_of(EXPLICIT)}
    if not quick:
        meshes |= {"Auto": mesh_of(AUTO), "mixed": mesh_of(EXPLICIT, AUTO)}
        meshes |= {"Explicit x Explicit": mesh_of(EXPLICIT, EXPLICIT)}
    problems = []
    for name, rule in every_rule().items():
        start = time.perf_counter()
        alone = bits(mm.merge(*models(rule, lambda tree: tree), rule))
        for kind, mesh in meshes.items():
            theta_0, thetas = models(rule, lambda tree: spread(tree, mesh))
            tried = {"merge": lambda: (None, mm.merge(theta_0, thetas, rule))}
            tried |= {"by hand": lambda: by_hand(rule, theta_0, thetas)}
            if not quick:
                tried |= {"jit": lambda: jax.jit(lambda *a: by_hand(rule, *a))(theta_0, thetas)}
                def in_context():
                    with jax.set_mesh(mesh):
                        return None, mm.merge(theta_0, thetas, rule)
                tried |= {"set_mesh": in_context}
            for way, run in tried.items():
                try:
                    state, merged = run()
                    if way != "jit" or kind.startswith("Explicit"):
                        check_places((state, merged), theta_0, f"{name}, {kind}, {way}")
                    found = bits(merged)
                    differ = [leaf for leaf in alone if found[leaf] != alone[leaf]]
                    if differ:
                        problems.append((name, kind, way, differ))
                except Exception as error:
                    problems.append((name, kind, way, type(error).__name__, str(error)[:300]))
        print(f"{name:20} {time.perf_counter() - start:6.2f} s")
    for p in problems: print(*p)
    assert not problems


if __name__ == "__main__":
    main("quick" in sys.argv[1:])
