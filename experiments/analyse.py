"""Studies of finished runs: `python -m experiments.analyse RUN ... [--only signs pruning]`."""

from experiments import launch

if __name__ == "__main__":
    launch("analyse")
