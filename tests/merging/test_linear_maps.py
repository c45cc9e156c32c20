"""Which leaves the matrix rules treat as matrices of linear maps."""

import numpy as np
import pytest

import magmax_jax as mm
from magmax_jax.errors import UserError
from magmax_jax.merging import rules
from magmax_jax.merging.linear_maps import Finder, Matrices
from tests.merging.cases import folded, normal_taus
from tests.merging.test_facts import folded_as
from tests.merging.test_matrices import close

MAKE = pytest.mark.parametrize("make", [rules.iso_c, rules.opcm, rules.tsv_m, rules.tsv_stream])

MATRIX, TABLE = Matrices(), None
NAMES = [
    ("vision_model.encoder.layers.0.self_attn.q_proj.weight", (8, 8), MATRIX),
    ("visual_projection.weight", (6, 8), MATRIX),
    ("visual.proj", (8, 6), MATRIX),
    ("lm_head.weight", (50, 8), MATRIX),
    ("gpt_neox.embed_out.weight", (50, 8), MATRIX),
    ("time_embedding.linear_1.weight", (8, 8), MATRIX),
    ("params.Dense_0.kernel", (8, 6), MATRIX),
    ("anything", (8, 6), MATRIX),
    ("visual.transformer.resblocks.0.attn.in_proj_weight", (24, 8), Matrices(parts=3, axis=0)),
    ("blocks.0.attn.qkv.weight", (24, 8), Matrices(parts=3, axis=0)),
    ("h.0.attn.c_attn.weight", (8, 24), Matrices(parts=3, axis=1)),
    ("self_attn.qkv_proj.weight", (16, 8), MATRIX),  # grouped queries: of three widths
    ("vision_model.embeddings.position_embedding.weight", (50, 8), TABLE),
    ("visual.positional_embedding", (50, 8), TABLE),
    ("vision_model.embeddings.class_embedding", (8,), TABLE),
    ("vision_model.embeddings.patch_embedding.weight", (8, 3, 4, 4), TABLE),
    ("model.embed_tokens.weight", (50, 8), TABLE),
    ("bert.embeddings.word_embeddings.weight", (50, 8), TABLE),
    ("transformer.wte.weight", (50, 8), TABLE),
    ("shared.weight", (50, 8), TABLE),
    ("layer.0.SelfAttention.relative_attention_bias.weight", (32, 8), TABLE),
    ("attn.relative_position_bias_table", (169, 3), TABLE),
    ("Embed_0.embedding", (50, 8), TABLE),
    ("blocks.norm1.scale.value", (12, 8), TABLE),  # from NNX, stacked over layers
    ("blocks.fc1.bias", (12, 8), TABLE),
]


@pytest.mark.parametrize(("name", "shape", "expected"), NAMES, ids=[case[0] for case in NAMES])
def test_common_names_are_classified(name, shape, expected):
    assert Finder().of(name, shape) == expected
    by_shape = MATRIX if len(shape) == 2 else None
    assert Finder("by_shape").of(name, shape) == by_shape


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_concatenated_matrices_are_split_and_rejoined(stacked, axis):
    parts = normal_taus(2 if stacked else 1, 3, 4, 5)  # layers, parts, rows, columns
    leaf = np.concatenate(np.moveaxis(parts, 1, 0), axis=1 + axis)
    leaf = leaf if stacked else leaf[0]
    matrices = Matrices(stacked, 3, axis)
    np.testing.assert_array_equal(matrices.split(leaf), parts.reshape(-1, 4, 5))
    np.testing.assert_array_equal(matrices.join(matrices.split(leaf)), leaf)


@MAKE
@pytest.mark.parametrize("axis", [0, 1])
def test_query_key_and_value_are_three_separate_matrices(make, axis):
    taus = normal_taus(2, 3, 6, 6)  # tasks, parts
    rule = make(**({"rescale": 1.0} if make is rules.opcm else {}))
    joined = np.concatenate(np.moveaxis(taus, 1, 0), axis=1 + axis)
    merged = folded_as(rule, "attn.qkv.kernel", joined)
    for part, found in enumerate(np.split(merged, 3, axis=axis)):
        close(found, folded(rule, taus[:, part]))


@MAKE
def test_tables_are_averaged_unless_shapes_decide(make):
    taus = normal_taus(2, 9, 6)
    options = {"rescale": 1.0} if make is rules.opcm else {}
    close(folded_as(make(**options), "position_embedding.weight", taus), taus.mean(0))
    by_shape = make(matrices="by_shape", **options)
    of_a_matrix = folded_as(make(**options), "fc1.weight", taus)
    close(folded_as(by_shape, "position_embedding.weight", taus), of_a_matrix)
    assert np.abs(of_a_matrix - taus.mean(0)).max() > 0.1


@MAKE
def test_an_explicit_map_of_matrices_overrides_names(make):
    taus = [
        {"embedding": {"kernel": one}, "fc1": two}
        for one, two in zip(normal_taus(2, 2, 5, 18), normal_taus(2, 5, 6, seed=1), strict=True)
    ]
    theta_0 = {"embedding": {"kernel": np.zeros((2, 5, 18), np.float32)}, "fc1": 0 * taus[0]["fc1"]}
    options = {"rescale": 1.0} if make is rules.opcm else {}
    rule = make(
        maps=[rules.LinearMap("embedding.kernel", stacked=True, parts=3, axis=1)], **options
    )
    assert rule is make(maps=(("embedding.kernel", True, 3, 1),), **options)
    merged = mm.merge(theta_0, taus, rule, scale=1.0)
    for layer in range(2):
        for part in range(3):
            at = np.s_[layer, :, 6 * part : 6 * part + 6]
            each = [tau["embedding"]["kernel"][at] for tau in taus]
            expected = folded(make(**options), np.stack(each))
            close(np.asarray(merged["embedding"]["kernel"])[at], expected)
    assert make(maps=["fc1.kernel"]) == make(maps=[("fc1.kernel",)])
    close(merged["fc1"], (taus[0]["fc1"] + taus[1]["fc1"]) / 2)


@MAKE
def test_wrong_options_are_refused(make):
    for wrong, match in (
        ({"matrices": "by_size"}, "by_name or by_shape"),
        ({"maps": [3]}, "maps holds 3"),
        ({"maps": [("fc1.kernel", False, 0, 1)]}, "maps holds"),
    ):
        with pytest.raises(UserError, match=match):
            make(**wrong)
    rule = make(maps=[("w", False, 3, 1)])
    with pytest.raises(UserError, match=r"maps: w has shape \(6, 7\)"):
        folded_as(rule, "w", normal_taus(1, 6, 7))


@MAKE
def test_leaves_that_are_alike_share_a_rule(make):
    of_leaf = make().of_leaf
    assert of_leaf("a.fc1.weight", (4, 3)) == of_leaf("b.fc2.weight", (5, 4))
    kinds = {
        "fc1.weight": "as matrices",
        "attn.in_proj_weight": "as 3 matrices side by side",
        "token_embedding.weight": "as tables",
    }
    for name, words in kinds.items():
        assert of_leaf(name, (12, 4)).taken_as.startswith(words)
    assert "no matrices" in of_leaf("bias", (4,)).taken_as
