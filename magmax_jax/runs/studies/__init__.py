"""Studies of a run: `analysis` applied to its task vectors, and evaluations of altered models.

Each yields flat records, stored one per line in `RUN/analysis/NAME.jsonl`.
"""

from magmax_jax.runs.studies.study import STUDIES, study
from magmax_jax.runs.studies.subject import Subject

__all__ = ["STUDIES", "Subject", "study"]
