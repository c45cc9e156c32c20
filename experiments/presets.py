"""Where a run starts: each preset is a whole configuration, any field of which can be changed."""

from pathlib import Path

from magmax_jax.config import ExperimentConfig, ModelConfig, ScenarioConfig, TrainConfig

TINY_CLIP = str(Path(__file__).parent / "assets" / "tiny-clip")

PRESETS: dict[str, tuple[str, ExperimentConfig]] = {
    "quickstart": (
        "Handwritten digits in 5 tasks of 2 classes, with the small CLIP that comes along: two "
        "minutes on a laptop, nothing to download.",
        ExperimentConfig(
            model=ModelConfig(source=TINY_CLIP),
            scenario=ScenarioConfig(dataset="digits", num_tasks=5),
            # Small models forget little at small learning rates; here there is something to see.
            train=TrainConfig(
                epochs=10, batch_size=64, learning_rate=3e-4, weight_decay=0.0, warmup_fraction=0.1
            ),
        ),
    ),
    "class": (
        "Class-incremental learning, the paper's recipe: CLIP ViT-B/16 on CIFAR-100 in 10 tasks. "
        "Published accuracy of MagMax: 79.0 %.",
        ExperimentConfig(),
    ),
    "domain": (
        "Domain-incremental learning, the paper's recipe, over the domains of an image folder "
        "(train|test/domain/class/*) at --scenario.data-dir.",
        ExperimentConfig(scenario=ScenarioConfig(kind="domain", dataset="folder")),
    ),
}
