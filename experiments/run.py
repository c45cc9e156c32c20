"""One experiment: `python -m experiments.run PRESET [--field value ...]`."""

from experiments import launch

if __name__ == "__main__":
    launch("run")
