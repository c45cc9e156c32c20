"""The model itself: masks, pooling, NNX transformations, dtypes and import cost."""

import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from magmax_jax.models import CLIP, Companions, normalise
from magmax_jax.models.layers.positions import interpolate_positions
from magmax_jax.models.layers.transformer import apply_blocks
from tests.models.weights import CONFIGS, IDS, pixels, weights, write_checkpoint


@pytest.fixture(scope="module")
def model(legacy) -> CLIP:
    return CLIP.from_pretrained(legacy)


@jax.jit
def text_features(model: CLIP, ids: jax.Array) -> jax.Array:
    return model.encode_text(ids)


def test_nothing_after_the_end_of_a_text_is_seen(model):
    ids = IDS["legacy"].copy()
    features = text_features(model, ids)
    ids[0, 4:], ids[2, 2:] = 11, 12
    np.testing.assert_array_equal(text_features(model, ids), features)
    ids[0, 2] = 13
    changed = np.abs(text_features(model, ids) - features).max(axis=1)
    assert changed[0] > 1e-3
    np.testing.assert_array_equal(changed[1:], 0)


def test_pooling(checkpoint):
    model = CLIP.from_pretrained(checkpoint("modern"))
    ids = np.array(
        [[40, 41, 59, 7], [40, 41, 41, 41]]
    )  # the first EOS, not the last or the highest
    features = text_features(model, ids)
    np.testing.assert_array_equal(features[0], features[1])
    model = CLIP.from_pretrained(checkpoint("legacy"))
    ids = np.array([[48, 2, 49, 49], [48, 2, 49, 2]])  # the first of the highest ids, wherever 2 is
    features = text_features(model, ids)
    np.testing.assert_array_equal(features[0], features[1])
    ids[0, 2:] = 7  # now 48, at the start, is the highest
    start = text_features(model, ids)[0]
    ids[0, 1] = 3
    np.testing.assert_array_equal(text_features(model, ids)[0], start)


def test_images_and_texts_of_another_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).*\(b, 32, 32, 3\).*image_size"):
        model.encode_image(jnp.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"10 tokens.*at most 9"):
        model.encode_text(jnp.zeros((2, 10), int))


def test_transformations_of_the_whole_model(legacy):
    model = CLIP.from_pretrained(legacy)
    model.companions = Companions(tokenizer=["not", "hashable"], preprocessor={"nor": "this"})
    graphdef, params = nnx.split(model)
    assert nnx.merge(graphdef, params).tokenizer == model.tokenizer
    traces = []

    @jax.jit
    def score(params, images, ids):
        traces.append(1)
        return nnx.merge(graphdef, params)(images, ids)

    given = pixels(32), IDS["legacy"]
    first = score(params, *given)
    np.testing.assert_array_equal(score(jax.tree.map(lambda x: x + 0, params), *given), first)
    assert len(traces) == 1
    logits = nnx.jit(lambda model, images, ids: model(images, ids))(model, *given)
    np.testing.assert_allclose(logits, first, rtol=0, atol=1e-5)


def test_interpolation_keeps_shared_samples():
    positions = np.random.RandomState(0).uniform(-1, 1, (17, 5)).astype(np.float32)
    assert interpolate_positions(positions, 4) is positions
    up = interpolate_positions(positions, 12)
    np.testing.assert_array_equal(up[0], positions[0])
    centres = up[1:].reshape(12, 12, 5)[1::3, 1::3]  # new samples that fall on old ones
    np.testing.assert_allclose(centres, positions[1:].reshape(4, 4, 5), rtol=0, atol=1e-6)
    constant = np.full((17, 5), 1024, np.float32)
    np.testing.assert_array_equal(interpolate_positions(constant, 7), 1024)


def test_bfloat16_features_have_the_same_direction_as_float32_ones(real_clip):
    features = []
    for dtype in ("float32", "bfloat16"):
        model = CLIP.from_pretrained(real_clip, image_size=112, dtype=dtype)
        graphdef, params = nnx.split(model)
        ids = np.array([[49406, 320, 1125, 539, 320, 2368, 49407]])

        @jax.jit
        def encode(params, images, ids, graphdef=graphdef):
            model = nnx.merge(graphdef, params)
            return normalise(model.encode_image(images)), normalise(model.encode_text(ids))

        features.append(encode(params, pixels(112) / 2, ids))
    for exact, rounded in zip(*features, strict=True):
        assert exact.dtype == rounded.dtype == np.float32
        assert (exact * rounded).sum(-1).min() > 0.99


def test_loading_takes_no_more_than_one_extra_copy(tmp_path):
    config = CONFIGS["legacy"] | {
        "text_config": CONFIGS["legacy"]["text_config"] | {"vocab_size": 300_000}
    }
    tensors = weights(config)
    size = sum(tensor.nbytes for tensor in tensors.values())
    directory = write_checkpoint(tmp_path, config, tensors)
    del tensors
    tracemalloc.start()
    try:
        CLIP.from_pretrained(directory)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 15e6
    assert peak < 1.2 * size  # NumPy's memory only; the model itself is in JAX's


@pytest.mark.parametrize("load", [False, True], ids=["import", "load"])
def test_an_import_loads_neither_transformers_nor_torch_and_loading_is_quiet(load, legacy):
    code = "import sys, magmax_jax.models as models\n"
    code += "assert not {'torch', 'transformers', 'tensorflow'} & set(sys.modules)\n"
    if load:
        code += f"models.CLIP.from_pretrained({str(legacy)!r})\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_saved_model_has_ordinary_file_permissions(tiny_clip, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    mode = plain.stat().st_mode
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tiny_clip / name).stat().st_mode == mode


def test_the_image_tower_shares_parameters_and_computes_in_its_dtype(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    pixels = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    exact = model.encode_image(pixels)
    features = {d: nnx.merge(*model.image_tower(d))(pixels) for d in ("float32", "bfloat16")}
    np.testing.assert_array_equal(features["float32"], exact)
    assert features["bfloat16"].dtype == jnp.bfloat16
    np.testing.assert_allclose(features["bfloat16"], exact, atol=0.05 * float(abs(exact).max()))
    ours, shared = jax.tree.leaves(model.image_tower("bfloat16")[1])[0], nnx.state(model.vision)
    assert ours.unsafe_buffer_pointer() == jax.tree.leaves(shared)[0].unsafe_buffer_pointer()


def test_parameters_of_the_image_tower_are_found_in_the_model(tiny_clip):
    place_of = CLIP.from_pretrained(tiny_clip).config.place_of
    assert place_of("position_embedding") == ("embedding", "position_embedding", False)
    assert place_of("post_norm.scale") == ("head", "post_norm.scale", False)
    assert place_of("projection.kernel") == ("head", "projection.kernel", False)
    assert place_of("blocks.fc1.bias") == ("block", "fc1.bias", True)


def test_rematerialised_blocks_give_the_same_gradient_in_less_memory(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    pixels = jax.random.normal(jax.random.key(0), (64, 16, 16, 3))
    found, memory = {}, {}
    for remat in (False, True):
        tower, params = model.image_tower("float32", remat)

        def loss_fn(params, pixels, tower=tower):
            return jnp.sum(nnx.merge(tower, params)(pixels) ** 2)

        compiled = jax.jit(jax.grad(loss_fn)).lower(params, pixels).compile()
        found[remat] = jax.flatten_util.ravel_pytree(compiled(params, pixels))[0]
        memory[remat] = compiled.memory_analysis().temp_size_in_bytes
    largest = jnp.abs(found[False]).max()
    np.testing.assert_allclose(found[True], found[False], rtol=0, atol=1e-6 * largest)
    assert memory[True] < 0.9 * memory[False]


def kept_widths(model: CLIP, remat: bool) -> list[int]:
    """Widths of what each block of the image tower stores per token for the gradient."""
    graphdef, params = nnx.split(model.vision.blocks)
    x = jnp.ones((2, 5, model.config.vision.width))

    def walk(params):
        return apply_blocks(nnx.merge(graphdef, params), x, remat)

    kept = jax.tree.leaves(jax.vjp(walk, params)[1])
    layers = model.config.vision.layers
    return sorted(leaf.shape[-1] for leaf in kept if leaf.shape[:2] == (layers, 2 * 5))


def test_a_block_stores_only_its_expensive_products(tiny_clip):
    model = CLIP.from_pretrained(tiny_clip)
    width, mlp = model.config.vision.width, model.config.vision.mlp
    assert kept_widths(model, remat=False) == sorted([width, 3 * width, width, mlp])
    assert kept_widths(model, remat=True) == [width]
