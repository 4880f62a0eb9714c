"""Outcome data from a user's own prompts: ask the pool, grade the answers, write a data set."""

from proteus_router.serving.collect.dataset import outcome_table, write_data_set
from proteus_router.serving.collect.exchange import Wording
from proteus_router.serving.collect.job import Grading, Job, pool_models
from proteus_router.serving.collect.journal import Journal
from proteus_router.serving.collect.prompts import Prompt, read_prompts
from proteus_router.serving.collect.run import Tally

__all__ = [
    "Grading",
    "Job",
    "Journal",
    "Prompt",
    "Tally",
    "Wording",
    "outcome_table",
    "pool_models",
    "read_prompts",
    "write_data_set",
]
