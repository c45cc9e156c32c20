#!/usr/bin/env bash
# peft's add_weighted_adapter loses rsLoRA's scale, DoRA's magnitudes and LoRA's biases.
#
# Versions: peft 0.21.2, torch 2.13.0 (CPU).
# Guess: add_weighted_adapter(["a"], [1.0], "copy") does what adapter a does, whatever kind of LoRA
#   it is, or raises.
# Seen: so it is for plain LoRA. With use_rslora=True and r=4 the copy is twice as strong: its alpha
#   is set to r as if it were divided by r, and is then divided by sqrt(r). With use_dora=True its
#   magnitudes are those of the base's weights, not a's, and with lora_bias=True its biases are 0.
#   There is no warning and no error, for "cat", "svd" and "linear" alike, and whatever was combined
#   is saved so. merge_and_unload is right for all four.
# So: merge such adapters into their models one by one (merge_and_unload) and merge the models. We
#   compute B A with each adapter's own scale, add its biases, and refuse DoRA in a sentence.
# Output seen:
#   plain: copy 0.00, merge_and_unload 0.00
#   use_rslora: copy 1.00, merge_and_unload 0.00
#   use_dora: copy 0.79, merge_and_unload 0.00
#   lora_bias: copy 0.56, merge_and_unload 0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check peft==0.21.2
cat > "$work/copied.py" <<'PYTHON'
import warnings

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

warnings.simplefilter("ignore")  # on modules that the model does not have


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x):
        return self.w(x)


def error_of(found, wanted):
    return f"{float((found - wanted).norm() / wanted.norm()):.2f}"


EXPECTED = {"plain": "0.00", "use_rslora": "1.00", "use_dora": "0.79", "lora_bias": "0.56"}
torch.manual_seed(0)
inputs = torch.randn(64, 16)
for kind, expected in EXPECTED.items():
    options = {} if kind == "plain" else {kind: True}
    base = Model()
    before = base(inputs).detach()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["w"], **options)
    model = get_peft_model(base, config, adapter_name="a")
    layer = model.base_model.model.w
    nn.init.normal_(layer.lora_B["a"].weight, std=0.1)
    if kind == "lora_bias":
        nn.init.normal_(layer.lora_B["a"].bias, std=0.1)
    if kind == "use_dora":
        layer.lora_magnitude_vector["a"].weight.data *= 1.5
    trained = model(inputs).detach() - before
    for way in ("cat", "svd", "linear"):
        model.add_weighted_adapter(["a"], [1.0], way, combination_type=way)
        model.set_adapter(way)
        copy = error_of(model(inputs).detach() - before, trained)
        assert copy == expected, f"this has changed: {kind}, {way}: {copy}"
    model.set_adapter("a")
    merged = error_of(model.merge_and_unload(adapter_names=["a"])(inputs).detach() - before, trained)
    print(f"{kind}: copy {copy}, merge_and_unload {merged}")
    assert merged == "0.00", "this has changed"
PYTHON
"$work/venv/bin/python" "$work/copied.py"
