"""Runs as one page: `python -m experiments.report RUN [RUN ...]`."""

from experiments import launch

if __name__ == "__main__":
    launch("report")
