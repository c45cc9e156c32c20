"""Outputs are loaded by the libraries that made the inputs; these are installed for the test."""

import json

import pytest

from tests.helpers import libraries
from tests.merge_files.conftest import merge

pytestmark = pytest.mark.slow
MAKE = """
import sys, torch
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Pooling, Transformer
from diffusers import UNet2DModel

place = Path(sys.argv[1])
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat dog owl".split()
(place / "vocab.txt").write_text("\\n".join(words))
small = dict(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
             intermediate_size=8, max_position_embeddings=16, num_labels=3)
orders = {"base": None, "one": ["cat", "dog", "owl"], "two": ["owl", "cat", "dog"]}
for seed, (name, labels) in enumerate(orders.items()):
    torch.manual_seed(seed)
    named = {} if labels is None else dict(
        id2label=dict(enumerate(labels)), label2id={l: i for i, l in enumerate(labels)})
    bert = place / "transformers" / name
    BertForSequenceClassification(BertConfig(**small, **named)).save_pretrained(bert)
    BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(bert)
    modules = [Transformer(str(bert)), Pooling(8), Dense(8, 4)]
    sentences = SentenceTransformer(modules=modules, device="cpu")
    sentences.save(str(place / "sentence-transformers" / name))
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), layers_per_block=1)
    unet.save_pretrained(place / "diffusers" / name)
    unet.save_pretrained(place / "sharded" / name, max_shard_size="500KB")
    unet.half().save_pretrained(place / "variant" / name, variant="fp16")
"""
CHECK = {
    "transformers": """
from transformers import AutoTokenizer, BertForSequenceClassification as Model
out, one, two = (Model.from_pretrained(place / name) for name in ("out", "one", "two"))
assert list(out.config.id2label.values()) == ["cat", "dog", "owl"]
expected = (one.classifier.weight + two.classifier.weight[[1, 2, 0]]) / 2
assert torch.allclose(out.classifier.weight, expected, atol=1e-6)
assert torch.allclose(out.bert.embeddings.word_embeddings.weight,
    (one.bert.embeddings.word_embeddings.weight + two.bert.embeddings.word_embeddings.weight) / 2,
    atol=1e-6)
assert AutoTokenizer.from_pretrained(place / "out")("a cat")["input_ids"] == [2, 5, 6, 3]
""",
    "sentence-transformers": """
from sentence_transformers import SentenceTransformer
load = lambda name: SentenceTransformer(str(place / name), device="cpu")
out, base, one, two = map(load, ("out", "base", "one", "two"))
assert [type(module).__name__ for module in out] == ["Transformer", "Pooling", "Dense"]
assert torch.equal(out[2].linear.weight, base[2].linear.weight)
tables = [m[0].auto_model.get_input_embeddings().weight for m in (out, one, two)]
assert torch.allclose(tables[0], (tables[1] + tables[2]) / 2, atol=1e-6)
assert out.encode(["a cat"]).shape == (1, 4)
""",
    "diffusers": """
from diffusers import UNet2DModel as Model
variant = "fp16" if place.name == "variant" else None
out, one, two = (Model.from_pretrained(place / n, variant=variant) for n in ("out", "one", "two"))
for ours, first, second in zip(out.parameters(), one.parameters(), two.parameters()):
    tolerance = 1e-3 if variant else 1e-6
    assert torch.allclose(ours.float(), (first.float() + second.float()) / 2, atol=tolerance)
assert torch.isfinite(out.float()(torch.zeros(1, 1, 8, 8), 0).sample).all()
""",
}


def run(python: str, script: str, place) -> None:
    begin = f"import sys, torch\nfrom pathlib import Path\nplace = Path({json.dumps(str(place))})\n"
    libraries.run(python, begin + script, place)


@pytest.fixture(scope="module")
def made(python, tmp_path_factory):
    """theta_0 and two models per library, as saved by it."""
    place = tmp_path_factory.mktemp("models")
    run(python, MAKE, place)
    return place


@pytest.mark.parametrize(
    ("folder", "library"),
    [("transformers", "transformers"), ("sentence-transformers", "sentence-transformers"),
     ("diffusers", "diffusers"), ("sharded", "diffusers"), ("variant", "diffusers")],
)  # fmt: skip
def test_each_library_loads_the_output(python, made, folder, library):
    place = made / folder
    flags = ["--rule", "average", "--scale", 1, "--output", place / "out"]
    sources = ["--pretrained", place / "base", "--finetuned", place / "one", place / "two"]
    assert merge(*sources, *flags) == 0
    run(python, CHECK[library], place)
