"""The paper's tables of our runs: `python -m experiments.table RUNS... [--format latex]`."""

from experiments import launch

if __name__ == "__main__":
    launch("table")
