"""Merging any pytree of arrays: at once, one by one, with provenance, by a rule of your own."""

import jax
import jax.numpy as jnp
import numpy as np

import magmax_jax as mm


def model(seed):
    """Parameters of a small network, as nested dictionaries; NNX, Equinox and Haiku work alike."""
    random = np.random.default_rng(seed)
    return {
        "first": {"kernel": random.normal(size=(4, 8)), "bias": np.zeros(8)},
        "last": {"kernel": random.normal(size=(8, 2)), "step": np.int32(seed)},
    }


theta_0, *models = map(model, range(4))  # your pretrained model, and fine-tuned ones

# At once. Integer leaves, such as a step counter, stay as in theta_0.
merged = mm.merge(theta_0, models, rule="max_magnitude", scale=0.5)
ties = mm.merge(theta_0, models, mm.rules.ties(density=0.2))

# One by one: the state of a streaming rule does not grow with the models.
rule = mm.rules.max_magnitude(provenance=True)
state = rule.init(theta_0)
for theta in models:
    state = rule.update(state, mm.task_vector(theta, theta_0))
again = mm.apply_task_vector(theta_0, rule.finalize(state), scale=0.5)
assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), merged, again))

for part in mm.analysis.supplied(state):
    print(f"{part.leaf:13} task {part.task} supplied {part.supplied:2} of {part.entries} entries")


def median():
    """A rule of your own: the entrywise median of all task vectors."""
    return mm.rules.collecting(
        lambda taus: mm.rules.leafwise(lambda *x: jnp.median(jnp.stack(x), axis=0), *taus),
        default_scale=1.0,
        scope="entry",  # looks at one entry at a time, so files are merged in chunks
    )


theirs = mm.merge(theta_0, models, median())
norms = {name: float(mm.analysis.norm(mm.task_vector(theta, theta_0))) for name, theta in
         {"max_magnitude": merged, "ties": ties, "median": theirs}.items()}  # fmt: skip
print(", ".join(f"{name} moves theta_0 by {norm:.2f}" for name, norm in norms.items()))
