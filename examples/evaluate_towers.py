"""Image towers without a text tower, as `CLIPVisionModel` saves them: evaluated and merged.

Such checkpoints are common on the hub. The CLIP that they were fine-tuned from supplies the text
tower, tokenizer and projection. Two towers are made here: the bundled CLIP's, fine-tuned on the
digits 0 to 4 and 5 to 9.
"""

import json
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

import magmax_jax as mm

WHOLE = Path(mm.preset("quickstart").model.source)
out = Path("runs/towers")


def tower(directory, model):
    """Writes the image tower of a whole CLIP as transformers' `CLIPVisionModel` would."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = load_file(model / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if name.startswith("vision_model.")}
    save_file(kept, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())["vision_config"]
    facts = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model"}
    (directory / "config.json").write_text(json.dumps(config | facts))
    return directory


def magmax(*words):
    subprocess.run([sys.executable, "-m", "magmax_jax", *map(str, words)], check=True)


# Two independent tasks. A run keeps the model of every task: RUN:task:1 and RUN:task:2.
small = {"num_tasks": 2, "limit_per_class": 30}
config = mm.preset("quickstart", scenario=small, train={"epochs": 3}, merges=[])
config = config.replace(method={"sequential": False}, merging={"scales": None})
mm.run(config, out / "run", progress=False)
towers = []
for task in (1, 2):
    exported = out / f"task-{task}"
    if not exported.exists():
        mm.export(out / "run", exported, model=f"task:{task}")
    towers.append(tower(out / f"tower-{task}", exported))

# Merged as files: into the whole CLIP, whose text tower stays.
merged = out / "merged"
if not merged.exists():
    chosen = ("--include", "vision_model.*", "--rule", "average")
    magmax("merge", "--pretrained", WHOLE, "--finetuned", *towers, *chosen, "--output", merged)

models = {"pretrained": WHOLE, "tower 1": towers[0], "tower 2": towers[1], "merged": merged}
rows = mm.evaluate(
    {name: str(path) for name, path in models.items()},
    scenario=mm.config.ScenarioConfig(dataset="digits", num_tasks=2, limit_per_class=30),
    text_source=str(WHOLE),
    progress=False,
)
for name in models:
    agnostic = {r.group: r.accuracy for r in rows if (r.model, r.protocol) == (name, "agnostic")}
    shown = ", ".join(f"{group}: {100 * value:.1f} %" for group, value in agnostic.items())
    print(f"{name:11} {shown}")
