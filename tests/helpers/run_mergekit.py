"""Runs mergekit on recipes, in a Python that has it: RECIPE OUTPUT [RECIPE OUTPUT ...]."""

import sys

import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

for recipe, output in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    with open(recipe, encoding="utf-8") as file:
        configuration = MergeConfiguration.model_validate(yaml.safe_load(file))
    run_merge(configuration, output, MergeOptions(copy_tokenizer=False, random_seed=1))
