"""A family's linear maps are the parameters of transformers' `nn.Linear` modules."""

import pytest

from magmax_jax.models.clip import config as clip
from magmax_jax.models.entries import linear_maps
from magmax_jax.models.siglip import config as siglip

torch = pytest.importorskip("torch")

from transformers import CLIPModel, SiglipModel  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "model"), [(clip.CLIPConfig, CLIPModel), (siglip.SigLIPConfig, SiglipModel)]
)
def test_linear_maps_match_torch(shape, model):
    tower = {
        "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 12,
    }  # fmt: skip
    vision = tower | {"image_size": 8, "patch_size": 4}
    text = tower | {"vocab_size": 20, "max_position_embeddings": 6, "projection_size": 8}
    config = model.config_class(text_config=text, vision_config=vision, projection_dim=8)
    theirs = model(config)
    expected = set()
    for name, module in theirs.named_modules():
        if isinstance(module, torch.nn.Linear):
            expected.add(f"{name}.weight")
        elif isinstance(module, torch.nn.MultiheadAttention):
            expected.add(f"{name}.in_proj_weight")
    entries = shape.from_hf(config).entries
    kernels = {path: parts for path, _, parts, _ in linear_maps(entries)}
    ours = {
        name
        for entry in entries
        if entry.path in kernels
        for names in entry.names
        for name in names
    }
    assert ours == expected
    assert {path for path, parts in kernels.items() if parts == 3} == {
        entry.path for entry in entries if "qkv" in entry.path and entry.path.endswith("kernel")
    }
    with_tables = {path for path, *_ in linear_maps(entries, tables=True)} - kernels.keys()
    tables = {
        f"{name}.weight"
        for name, module in theirs.named_modules()
        if isinstance(module, torch.nn.Embedding)
    }
    assert {entry.names[0][0] for entry in entries if entry.path in with_tables} == tables
