"""Recipes of merging over time compared: `python -m experiments.results RUNS...`."""

from experiments import launch

if __name__ == "__main__":
    launch("results")
