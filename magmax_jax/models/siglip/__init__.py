"""SigLIP and SigLIP 2: both towers, their checkpoints, their registration as a model family."""
