"""Any checkpoint on any scenario: `python -m experiments.evaluate SOURCE ... [--scenario...]`."""

from experiments import launch

if __name__ == "__main__":
    launch("evaluate")
