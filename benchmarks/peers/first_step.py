"""The first training step in torch, eager, of the same image tower (see `benchmarks.first_step`).

Parts have the same names; nothing is traced or compiled.
"""

import json
import sys
import time
from pathlib import Path

CLASSES = 100


def main() -> None:
    """Settings are JSON in argv: `start`, `answer`, `batch_size`, `dtype`, and `model`, the
    configuration of a CLIP as ours names its fields."""
    settings = json.loads(sys.argv[1])
    ends = [time.monotonic()]

    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    ends.append(time.monotonic())
    size, projection = settings["model"]["vision"], settings["model"]["projection"]
    config = CLIPVisionConfig(
        hidden_size=size["width"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], intermediate_size=size["mlp"],
        image_size=size["image_size"], patch_size=size["patch_size"], projection_dim=projection,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = CLIPVisionModelWithProjection(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)
    b, side = settings["batch_size"], size["image_size"]
    pixels = torch.randn(b, 3, side, side, device=device)
    labels = torch.randint(CLASSES, (b,), device=device)
    head = torch.randn(projection, CLASSES, device=device)
    ends.append(time.monotonic())
    reduced = settings["dtype"] == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
        features = model(pixel_values=pixels).image_embeds.float()
    features = features / features.norm(dim=-1, keepdim=True)
    torch.nn.functional.cross_entropy(100 * features @ head, labels).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    ends.append(time.monotonic())
    names = ("interpreter", "imports", "model, batch and optimizer", "first step")
    begun = [settings["start"], *ends[:-1]]
    parts = {name: end - start for name, start, end in zip(names, begun, ends, strict=True)}
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    Path(settings["answer"]).write_text(json.dumps({"device": name, "parts": parts}))


if __name__ == "__main__":
    main()
