"""Where results are placed on all kinds of meshes; its test runs it in a separate process.

NPROC=64 XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.merging.placements
"""

import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import MergeRule, fold, kth_magnitude, merged, rules
from magmax_jax.merging.rule import informed
from tests.analysis.sharded import EXCHANGE
from tests.merging.cases import EVERY


class Meshes(NamedTuple):
    """Meshes of eight devices, made lazily because pytest imports this file with one device."""

    devices: np.ndarray
    four: Mesh
    auto: Mesh
    square: Mesh
    others: Mesh
    backward: Mesh
    all: Mesh

    @classmethod
    def make(cls) -> "Meshes":
        devices = np.array(jax.devices())
        explicit, auto = (AxisType.Explicit,), (AxisType.Auto,)
        return cls(
            devices=devices,
            four=Mesh(devices[:4], ("x",), axis_types=explicit),
            auto=Mesh(devices[:4], ("x",), axis_types=auto),
            square=Mesh(devices[:4].reshape(2, 2), ("p", "q"), axis_types=explicit + auto),
            others=Mesh(devices[4:], ("x",), axis_types=explicit),
            backward=Mesh(devices[3::-1], ("x",), axis_types=explicit),
            all=Mesh(devices, ("x",), axis_types=explicit),
        )


Tree = dict[str, Any]
"""A matrix, a vector and a number."""


def theta(seed: int) -> Tree:
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"w": (16, 8), "b": (8,), "g": ()}
    return {name: np.float32(random.normal(size=shape)) for name, shape in shapes.items()}


def on(mesh: Mesh, *spec: str | None) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*spec))


def rows(mesh: Mesh) -> Tree:
    return {"w": on(mesh, "x"), "b": on(mesh, "x"), "g": on(mesh)}


def columns(mesh: Mesh) -> Tree:
    return {"w": on(mesh, None, "x"), "b": on(mesh), "g": on(mesh)}


def placed_by(m: Meshes) -> dict[str, tuple[Tree, Tree]]:
    """Where the leaves of theta_0 and of the models are placed; unnamed leaves are NumPy arrays."""
    several = {"w": on(m.four, "x"), "b": on(m.auto, "x"), "g": "jax"}
    shapes = {"w": on(m.square, "q", "p"), "b": on(m.four, "x"), "g": m.devices[0]}
    disjoint = {"w": on(m.four, "x"), "b": on(m.others, "x"), "g": m.devices[7]}
    one_each = dict(zip("wbg", m.devices, strict=False))
    return {
        "the same mesh": (rows(m.four), rows(m.four)),
        "models split differently": (rows(m.four), columns(m.four)),
        "models on a mesh in another order": (rows(m.four), columns(m.backward)),
        "models on more devices": (rows(m.four), rows(m.all)),
        "models on the host": (rows(m.four), {}),
        "theta_0 on no mesh": ({"w": "jax", "b": "jax", "g": "jax"}, rows(m.four)),
        "axes of several kinds": (several, several),
        "meshes of several shapes": (shapes, shapes),
        "meshes with no device in common": (disjoint, disjoint),
        "a device for each leaf": (one_each, {**one_each, "w": m.devices[3]}),
    }


def put(tree: Tree, places: Tree) -> Tree:
    def placed(leaf: np.ndarray, place: Any) -> Any:
        if place is None:
            return leaf
        return jnp.asarray(leaf) if place == "jax" else jax.device_put(leaf, place)

    return {name: placed(leaf, places.get(name)) for name, leaf in tree.items()}


def check(result: Tree, expected: Tree, like: Tree, what: str) -> None:
    for name, leaf in result.items():
        assert np.asarray(leaf).tobytes() == np.asarray(expected[name]).tobytes(), (what, name)
        ours = leaf.sharding, leaf.committed
        assert ours == (like[name].sharding, like[name].committed), (what, name, leaf.sharding)


def everywhere(m: Meshes) -> None:
    host = [theta(seed) for seed in range(3)]
    tau_host = mm.task_vector(host[1], host[0])
    again = mm.apply_task_vector(host[0], tau_host)
    for rule in (rules.ties(), rules.opcm()):  # one with global numbers, one on whole arrays
        expected = mm.merge(host[0], host[1:], rule)
        for what, (of_theta_0, of_models) in placed_by(m).items():
            theta_0 = put(host[0], of_theta_0)
            models = [put(model, of_models) for model in host[1:]]
            for context in (contextlib.nullcontext, lambda: jax.set_mesh(m.all)):
                with context():
                    check(mm.merge(theta_0, models, rule), expected, theta_0, what)
                    tau = mm.task_vector(models[0], theta_0)
                    check(tau, tau_host, theta_0, what)
                    check(mm.apply_task_vector(theta_0, tau), again, theta_0, what)


def own_rules_and_traces(m: Meshes) -> None:
    theta_0, model = (put(theta(seed), rows(m.four)) for seed in range(2))

    def sort(total: jax.Array, tau: jax.Array) -> jax.Array:
        return total + jnp.sort(tau.reshape(-1)).reshape(tau.shape)  # ambiguous under Explicit axes

    own = MergeRule(
        lambda pretrained: jax.tree.map(jnp.zeros_like, pretrained),
        lambda state, tau: jax.tree.map(sort, state, tau),
        lambda state: state,
        streaming=True,
        default_scale=1.0,
    )
    expected = mm.merge(theta(0), [theta(1)], own)
    check(mm.merge(theta_0, [model], own), expected, theta_0, "a user's own rule")

    rule = rules.max_magnitude()
    state = rule.init(theta_0)
    new = fold(rule, state, model, theta_0)
    assert all(leaf.is_deleted() for leaf in state.values()), "the old state's buffers are reused"
    assert new["w"].sharding == theta_0["w"].sharding

    def by_hand(theta_0: Tree, model: Tree) -> Tree:
        tau = mm.task_vector(model, theta_0)
        return mm.apply_task_vector(theta_0, rule.finalize(rule.update(rule.init(theta_0), tau)))

    closed_over = jax.jit(lambda model: by_hand(theta_0, model))(model)
    gradient = jax.jit(
        jax.grad(lambda model: sum(x.sum() for x in by_hand(theta_0, model).values()))
    )
    for name, leaf in theta_0.items():
        for of in (closed_over, gradient(model)):
            assert of[name].sharding.is_equivalent_to(leaf.sharding, leaf.ndim), name
    stacked = jax.vmap(lambda model: by_hand(theta_0, model))(
        {name: jnp.stack([leaf, leaf]) for name, leaf in model.items()}
    )
    assert stacked["w"].sharding.spec == PartitionSpec(None, "x", None)
    assert kth_magnitude(model, 20) == kth_magnitude(theta(1), 20)

    specs = {name: leaf.sharding.spec for name, leaf in theta_0.items()}
    try:
        jax.shard_map(by_hand, mesh=m.four, in_specs=(specs, specs), out_specs=specs)(
            theta_0, model
        )
    except UserError as error:
        assert "call them outside it" in str(error)
    else:
        raise AssertionError("Manual axes were taken")


def nothing_is_gathered(m: Meshes) -> None:
    """In the compiled programs of entry-wise rules no device receives a piece of a leaf."""
    leaf = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    for name, rule in EVERY.items():
        if rule.scope != "entry" or not rule.streaming or rule.survey:
            continue

        def placed(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return x.update(sharding=on(m.all, "x") if x.shape == leaf.shape else on(m.all))

        theta_0 = {"w": placed(leaf)}
        state = jax.tree.map(placed, jax.eval_shape(rule.init, {"w": leaf}))
        model = informed(rule, theta_0, theta_0)
        for function, *args in ((fold, state, model, theta_0), (merged, state, theta_0, 1.0)):
            program = jax.jit(function, static_argnums=0).lower(rule, *args).compile().as_text()
            assert not (found := EXCHANGE.findall(program)), (name, function.__name__, found)


def main() -> None:
    meshes = Meshes.make()
    nothing_is_gathered(meshes)
    everywhere(meshes)
    own_rules_and_traces(meshes)
    print("everything is placed like theta_0")


if __name__ == "__main__":
    main()
