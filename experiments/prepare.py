"""Data sets, downloaded and prepared once: `python -m experiments.prepare NAME...|all`."""

from experiments import launch

if __name__ == "__main__":
    launch("prepare")
