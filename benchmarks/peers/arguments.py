"""The command line that every peer answers to; standard library only, for any environment."""

import argparse
from pathlib import Path

WEIGHTS = "model.safetensors"


def parse(rules: dict[str, float]) -> argparse.Namespace:
    """What to merge: `rule`, its `scale`, `pretrained`, `finetuned` and `output` directories.

    Args:
      rules: what the peer offers, each with its scale.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", choices=rules, default=next(iter(rules)))
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--finetuned", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.scale = rules[arguments.rule]
    arguments.output.mkdir(parents=True, exist_ok=True)
    return arguments
