"""A run's model as a Hugging Face directory: `python -m experiments.export RUN --output DIR`."""

from experiments import launch

if __name__ == "__main__":
    launch("export")
