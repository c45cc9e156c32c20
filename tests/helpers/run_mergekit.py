"""Runs mergekit on recipes, in a Python that has it: RECIPE OUTPUT [RECIPE OUTPUT ...]."""

import sys


def main(words: list[str]) -> None:
    """Merges each recipe into the output that follows it."""
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    for recipe, output in zip(words[::2], words[1::2], strict=True):
        with open(recipe, encoding="utf-8") as file:
            configuration = MergeConfiguration.model_validate(yaml.safe_load(file))
        run_merge(configuration, output, MergeOptions(copy_tokenizer=False, random_seed=1))


if __name__ == "__main__":
    main(sys.argv[1:])
