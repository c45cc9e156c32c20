#!/usr/bin/env bash
# peft's "linear" combination of two LoRA adapters is not the sum of what they do.
#
# Versions: peft 0.21.2, torch 2.13.0 (CPU).
# Guess: add_weighted_adapter(["a", "b"], [0.5, 0.5], combination_type="linear") changes a weight by
#   0.5 B_a A_a + 0.5 B_b A_b, exactly where the rank allows it; "cat" is the same at twice the rank.
# Seen: it adds the factors: (sum of sqrt(w) B) (sum of sqrt(w) A), so the cross terms B_a A_b and
#   B_b A_a come in with the same weight. For two independent adapters the error is as large as the
#   sum itself. "cat" is exact, "svd" the best of the rank. With one adapter all agree.
# So: use "cat" (or "svd"). We add the deltas, B A; --lora-rank says how much of the sum an
#   adapter keeps.
# Output seen:
#   linear: relative error 1.03, from the product of sums 0.00
#   cat: relative error 0.00, from the product of sums 0.55
#   svd: relative error 0.27, from the product of sums 0.53
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check peft==0.21.2
cat > "$work/combined.py" <<'PYTHON'
import warnings

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(6, 5, bias=False)

    def forward(self, x):
        return self.w(x)


config = LoraConfig(r=2, lora_alpha=2, target_modules=["w"], init_lora_weights=False)
model = get_peft_model(Model(), config, adapter_name="a")
model.add_adapter("b", config)
layer = model.base_model.model.w
delta = {name: layer.get_delta_weight(name).detach().clone() for name in "ab"}
wanted = 0.5 * delta["a"] + 0.5 * delta["b"]
up, down = (
    sum(0.5**0.5 * factors[name].weight.detach() for name in "ab")
    for factors in (layer.lora_B, layer.lora_A)
)
EXPECTED = {"linear": ("1.03", "0.00"), "cat": ("0.00", "0.55"), "svd": ("0.27", "0.53")}
for kind, expected in EXPECTED.items():
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], kind, combination_type=kind)
    found = layer.get_delta_weight(kind).detach()
    errors = tuple(
        f"{float((found - other).norm() / other.norm()):.2f}" for other in (wanted, up @ down)
    )
    print(f"{kind}: relative error {errors[0]}, from the product of sums {errors[1]}")
    assert errors == expected, "this has changed"
PYTHON
"$work/venv/bin/python" "$work/combined.py"
