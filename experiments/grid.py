"""Many experiments: `python -m experiments.grid NAME [options] [--field value ...]`."""

from experiments import launch

if __name__ == "__main__":
    launch("grid")
