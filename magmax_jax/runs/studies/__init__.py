"""Studies of a run: what `analysis` finds in its task vectors, and what evaluation makes of it.

Each gives flat records, which `RUN/analysis/NAME.jsonl` holds one a line.
"""

from magmax_jax.runs.studies.study import STUDIES, study
from magmax_jax.runs.studies.subject import Subject

__all__ = ["STUDIES", "Subject", "study"]
