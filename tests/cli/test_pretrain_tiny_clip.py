import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import CLIPTokenizer

from magmax_jax.errors import UserError
from magmax_jax.models import CLIP, tokenize
from tools.tiny_clip import glyphs
from tools.tiny_clip.command import Pretrain, main
from tools.tiny_clip.pretraining import train_tokenizer

ASSET = Pretrain.output
TINY = "--steps 2 --batch-size 8 --width 32 --layers 1".split()
TEXTS = [text for c in range(36) for texts in glyphs.captions(c) for text in texts]


@pytest.fixture(scope="module")
def atlas():
    return glyphs.make_atlas(glyphs.HELD_OUT_FONTS)


class TestGlyphs:
    def test_same_key_same_pictures(self, atlas):
        first, again, other = (glyphs.draw(jax.random.key(s), atlas, 16, 32) for s in (0, 0, 1))
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two)
        assert jnp.any(first[0] != other[0])

    def test_pictures(self, atlas):
        pixels, classes, looks = glyphs.draw(jax.random.key(0), atlas, 512, 32)
        assert pixels.shape == (512, 32, 32, 3)
        assert pixels.dtype == jnp.float32
        assert -1 <= pixels.min() < -0.9 < 0.9 < pixels.max() <= 1
        assert set(classes.tolist()) == set(range(36))
        assert looks[:, 0].all()
        np.testing.assert_allclose(looks.mean(axis=0), glyphs.FREQUENCIES, atol=0.08)

    def test_atlas_holds_distances_of_centred_glyphs(self, atlas):
        assert atlas.shape == (2, 72, glyphs.CELL, glyphs.CELL)
        inside = np.asarray(atlas) > 0
        first, last = glyphs.MARGIN, glyphs.CELL - glyphs.MARGIN - 1
        for cell in inside.reshape(-1, glyphs.CELL, glyphs.CELL):
            rows, columns = np.nonzero(cell)
            long, short = (rows, columns) if np.ptp(rows) > np.ptp(columns) else (columns, rows)
            assert abs(long.min() - first) <= 2 and abs(long.max() - last) <= 2
            assert abs(short.min() + short.max() - (glyphs.CELL - 1)) <= 2
        spread = np.abs(np.gradient(np.asarray(atlas), axis=-1)).max()
        assert spread <= 1.01 / (glyphs.CELL / 2 - glyphs.MARGIN)  # a distance has slope 1


def test_the_published_template_is_a_caption():
    assert glyphs.captions(7)[0][0] == 'a photo of the number: "7".'
    assert "a handwritten digit 7." in TEXTS
    assert 'a blurry photo of the letter: "g".' in TEXTS


class TestTokenizer:
    def test_every_caption_fits_and_words_are_whole(self):
        tokenizer = train_tokenizer(TEXTS, 32)
        assert max(map(len, tokenizer(TEXTS)["input_ids"])) <= 16
        assert tokenizer.tokenize("a photo of the number") == [
            f"{word}</w>" for word in "a photo of the number".split()
        ]

    def test_reloads_to_the_same_ids_for_any_word(self, tmp_path):
        tokenizer = train_tokenizer(TEXTS, 32)
        tokenizer.save_pretrained(tmp_path)
        again = CLIPTokenizer.from_pretrained(tmp_path)
        texts = [*TEXTS[:9], "a photo of a Xylophone, 42!", "naïve 数字 🙂"]
        ids = tokenizer(texts)["input_ids"]
        assert again(texts)["input_ids"] == ids
        assert again.model_max_length == 32
        for row in ids:
            assert row[0] == len(tokenizer) - 2
            assert row.index(len(tokenizer) - 1) == len(row) - 1  # EOS last; no word is unknown


class TestCommand:
    @pytest.mark.slow
    def test_writes_a_model_that_loads(self, tmp_path, monkeypatch):
        monkeypatch.setattr(glyphs, "FONTS", glyphs.HELD_OUT_FONTS)  # drawing all takes seconds
        main([*TINY, "--output", str(tmp_path / "model")])
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        model = CLIP.from_pretrained(tmp_path / "model")
        ids = tokenize(model, TEXTS[:3])
        assert model.encode_text(ids).shape == (3, 32)
        assert model.encode_image(jnp.zeros((2, 32, 32, 3))).shape == (2, 32)
        assert model.preprocessor["image_mean"] == [0.5, 0.5, 0.5]

    def test_refuses_to_replace(self, tmp_path):
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(UserError, match="what it holds is not a model"):
            main(["--output", str(tmp_path), "--overwrite"])
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(UserError, match="--overwrite"):
            main(["--output", str(tmp_path)])
        with pytest.raises(UserError, match="cannot be written"):
            main(["--output", str(tmp_path / "letter.txt" / "model")])


class TestAsset:
    def test_is_small(self):
        assert sum(path.stat().st_size for path in ASSET.iterdir()) < 5e6

    def test_names_glyphs_in_fonts_it_never_saw(self, atlas):
        model = CLIP.from_pretrained(ASSET)
        ids = tokenize(model, [glyphs.captions(c)[0][0] for c in range(36)])
        pixels, classes, _ = glyphs.draw(jax.random.key(1), atlas, 512, 32)
        accuracy = (model(pixels, ids).argmax(axis=1) == classes).mean()
        assert accuracy > 0.5  # chance is 1 in 36
