"""Our training step and torch's, timed side by side, compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.workloads import tower_config, training
from magmax_jax.api.presets import TINY_CLIP
from magmax_jax.config import TrainConfig
from magmax_jax.data import Preprocessing
from magmax_jax.models import CLIP
from magmax_jax.models.conversion import to_hf

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from benchmarks.peers.train_torch import Recipe, Way, make_step, make_tower  # noqa: E402


def test_ours_and_torch_take_the_same_steps():
    clip = CLIP.from_pretrained(TINY_CLIP)
    config, b, steps = clip.config, 6, 4
    recipe = TrainConfig(learning_rate=3e-3, clip_norm=0.35, crop_scale=(1, 1))
    tower = clip.image_tower("float32")
    trainer, theta, batch, objective = training(config, b, "float32", recipe, tower=tower)
    tensors = {
        name: torch.tensor(tensor)
        for name, tensor in to_hf(config.entries, nnx.state(clip, nnx.Param))
        if name.startswith(("vision_model.", "visual_projection."))
    }
    pixels = Preprocessing(config.vision.image_size).evaluate(batch.image, batch.box)
    pixels = torch.tensor(np.asarray(pixels).transpose(0, 3, 1, 2))
    labels = torch.tensor(np.asarray(batch.label)).long()
    head = torch.tensor(np.asarray(objective.head))
    tower = make_tower(tower_config(config), tensors)
    assert {name for name, _ in tower.named_parameters()} == set(tensors)
    numbers = Recipe(learning_rate=recipe.learning_rate, clip_norm=recipe.clip_norm)
    step = make_step(tower, head, Way(), numbers)
    state, losses, norms = trainer.init(theta), [], []
    for _ in range(steps):
        state, metrics = trainer.step(state, batch, objective)
        loss, norm = step(pixels, labels)
        np.testing.assert_allclose(float(metrics.loss), float(loss), rtol=1e-4)
        np.testing.assert_allclose(float(metrics.gradient_norm), float(norm), rtol=1e-4)
        losses, norms = [*losses, float(loss)], [*norms, float(norm)]
    assert max(norms) > recipe.clip_norm > min(norms)  # some are clipped, some are not
    assert losses[0] - losses[-1] > 0.05  # they have learned, so AdamW was compared as well
    parameters = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(state.params)))
    theirs = sum(float(p.detach().square().sum()) for p in tower.parameters()) ** 0.5
    np.testing.assert_allclose(float(parameters), theirs, rtol=1e-5)
