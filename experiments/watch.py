"""Progress of runs: `python -m experiments.watch RUN [RUN ...]`."""

from experiments import launch

if __name__ == "__main__":
    launch("watch")
