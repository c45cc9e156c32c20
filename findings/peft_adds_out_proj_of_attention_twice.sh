#!/usr/bin/env bash
# peft adds the LoRA matrices of MultiheadAttention's out_proj twice, in training as in merging.
#
# Versions: peft 0.21.2, torch 2.13.0 (CPU). See its pull request 3774.
# Guess: LoRA with target_modules=["attn"] on torch.nn.MultiheadAttention computes with
#   out_proj.weight + scale B A, and merge_and_unload writes that.
# Seen: both add it twice: MultiheadAttention.merge sets the weight to W + scale B A and then calls
#   out_proj.merge, which adds it again; the forward pass merges and unmerges. in_proj is added once.
# So: the meaning of such an adapter depends on the peft version that trained it, which its
#   configuration does not always record. We refuse them: pass the model merged by the same peft.
# Output seen:
#   forward pass: out_proj + 2 deltas; merge_and_unload: out_proj + 2 deltas
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check peft==0.21.2
cat > "$work/attention.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, x):
        return self.attn(x, x, x)[0]


torch.manual_seed(0)
model = Model().eval()
base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=8, target_modules=["attn"])).eval()
for name, parameter in peft.named_parameters():
    if "lora_" in name:
        parameter.data = torch.randn_like(parameter) * 0.3


def delta(part):
    state, start = peft.state_dict(), f"base_model.model.attn.{part}lora_"
    return 4 * state[f"{start}B.default.weight"] @ state[f"{start}A.default.weight"]


def plain(times):
    made = Model().eval()
    changed = {
        "attn.in_proj_weight": base["attn.in_proj_weight"] + delta(""),
        "attn.out_proj.weight": base["attn.out_proj.weight"] + times * delta("base_layer.out_proj."),
    }
    made.load_state_dict(base | changed)
    return made


with torch.no_grad():
    x = torch.randn(1, 5, 12)
    candidates = {times: plain(times) for times in (0, 1, 2)}
    error = {times: (made(x) - peft(x)).abs().max() for times, made in candidates.items()}
    whole = peft.merge_and_unload().attn.out_proj.weight
    merged = {
        times: (made.attn.out_proj.weight - whole).abs().max() for times, made in candidates.items()
    }
print(
    f"forward pass: out_proj + {min(error, key=error.get)} deltas; "
    f"merge_and_unload: out_proj + {min(merged, key=merged.get)} deltas"
)
PYTHON
shown=$("$work/venv/bin/python" -W ignore "$work/attention.py")
echo "$shown"
[[ $shown == "forward pass: out_proj + 2 deltas; merge_and_unload: out_proj + 2 deltas" ]]
