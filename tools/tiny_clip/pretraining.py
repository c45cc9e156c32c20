"""The bundled small CLIP: its tokenizer, its towers and their training.

`python -m experiments.pretrain_tiny_clip` is the command.
"""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.progress import Progress, TextColumn
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from magmax_jax.errors import DivergedError
from magmax_jax.models import CLIP, CLIPConfig, Companions, TextConfig, VisionConfig, tokenize
from tools.tiny_clip import glyphs
from tools.tiny_clip.settings import Pretrain


def random_clip(chosen: Pretrain, tokenizer: CLIPTokenizer) -> CLIP:
    """Both towers with random weights."""
    tower = {"width": chosen.width, "heads": 4, "mlp": 4 * chosen.width}
    tower |= {"activation": "quick_gelu", "epsilon": 1e-5}
    config = CLIPConfig(
        vision=VisionConfig(
            **tower,
            layers=chosen.layers,
            image_size=chosen.image_size,
            patch_size=chosen.patch_size,
        ),
        text=TextConfig(
            **tower,
            layers=max(chosen.layers // 2, 1),
            vocabulary=len(tokenizer),
            context=chosen.context,
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        ),
        projection=chosen.width,
    )
    model = CLIP(config, rngs=nnx.Rngs(chosen.seed))
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model.companions = Companions(tokenizer, pixels)
    return model


def train_tokenizer(texts: list[str], context: int) -> CLIPTokenizer:
    """CLIP's byte-level BPE over the words of `texts`; other words fall back to bytes."""
    alphabet = sorted(ByteLevel.alphabet())
    backend = CLIPTokenizer().backend_tokenizer
    backend.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=1024,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    # CLIP's order: bytes, bytes that end a word, merges, and the two special tokens, EOS last.
    tokens = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context)


def pretrain(chosen: Pretrain) -> CLIP:
    """Trains both towers, with a progress bar on the terminal.

    Raises:
      DivergedError: the loss is not finite.
    """
    captions = np.array([glyphs.captions(c) for c in range(len(glyphs.CLASSES))])  # (k, l, v)
    texts = captions.ravel().tolist()
    model = random_clip(chosen, train_tokenizer(texts, chosen.context))
    ids = jnp.array(tokenize(model, texts)).reshape(*captions.shape, -1)  # (k, l, v, n)
    train_atlas, test_atlas = map(glyphs.make_atlas, (glyphs.FONTS, glyphs.HELD_OUT_FONTS))
    *held_out, _ = glyphs.draw(jax.random.key(0), test_atlas, 512, chosen.image_size)
    graphdef, params = nnx.split(model)
    warmup = max(chosen.steps // 20, 1)
    rate = optax.warmup_cosine_decay_schedule(0, chosen.learning_rate, warmup, chosen.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.98, weight_decay=chosen.weight_decay)
    )

    def loss_of(params, pixels, classes, looks, key):
        """Symmetric InfoNCE; all captions in the batch that are true of an image are positives."""
        look_key, style_key = jax.random.split(key)
        said = jax.random.categorical(look_key, jnp.where(looks, 0.0, -jnp.inf))  # (b,)
        style = jax.random.randint(style_key, said.shape, 0, ids.shape[2])
        logits = nnx.merge(graphdef, params)(pixels, ids[classes, said, style])  # (b, b)
        true = (classes[:, None] == classes) & looks[:, said]
        ways = ((logits, true), (logits.T, true.T))
        return sum(
            optax.softmax_cross_entropy(scores, hits / hits.sum(axis=1, keepdims=True)).mean() / 2
            for scores, hits in ways
        )

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key):
        draw_key, caption_key = jax.random.split(key)
        batch = glyphs.draw(draw_key, train_atlas, chosen.batch_size, chosen.image_size)
        loss, grads = jax.value_and_grad(loss_of)(params, *batch, caption_key)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    @jax.jit
    def accuracy(params, pixels, classes):
        """Share of pictures in held-out fonts for which the plain caption of their class wins."""
        logits = nnx.merge(graphdef, params)(pixels, ids[:, 0, 0])  # (b, k)
        return (logits.argmax(axis=1) == classes).mean()

    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("pretraining", total=chosen.steps, facts="compiling")
        state, key = optimizer.init(params), jax.random.key(chosen.seed)
        for i in range(chosen.steps):
            params, state, loss = step(params, state, jax.random.fold_in(key, i))
            if i % 100 == 99 or i + 1 == chosen.steps:
                if not math.isfinite(loss):
                    raise DivergedError(f"the loss is {loss} at step {i}: lower --learning-rate")
                facts = f"loss {loss:.3f}  held-out fonts {accuracy(params, *held_out):.1%}"
                bar.update(task, completed=i + 1, facts=facts)
    nnx.update(model, params)
    return model
