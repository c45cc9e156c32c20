"""Training step and evaluation over several accelerators; an abstract mesh is enough."""

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding

from magmax_jax.config import TrainConfig
from magmax_jax.sharding import BATCH, WHOLE, Layout
from magmax_jax.training import make_trainer
from tests.lowering.programs import program, shapes, tree_bytes
from tests.lowering.towers import PREPROCESSING, batch, objective, tower


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (4, 2)])
def test_a_step_over_a_mesh_is_on_its_devices_and_updates_in_place(data, fsdp, platform):
    mesh = AbstractMesh((data, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2)
    layout = Layout(mesh)  # type: ignore[arg-type]

    def placed(tree, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: x.update(sharding=sharding), tree)

    # In bfloat16, JAX lowers cuDNN's attention only for devices that are present.
    graphdef, theta = tower("float32", whole=layout.whole)
    trainer = make_trainer(graphdef, PREPROCESSING, TrainConfig(), layout=layout)
    state = layout.shapes(jax.eval_shape(trainer.init, layout.shapes(theta)))
    task = placed(objective(), WHOLE)
    found = program(platform, trainer.step, state, placed(shapes(batch()), BATCH), task)
    assert not found.forbidden
    assert found.donated == tree_bytes(state)
