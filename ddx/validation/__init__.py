"""Does the model know what it claims to know? Simulated cases, and measures of posteriors against true causes."""

from ddx.validation.changes import parameter_changes, posterior_changes, read_cases
from ddx.validation.evaluation import Evaluation, evaluate_file
from ddx.validation.measures import Estimate
from ddx.validation.reports import Report, report
from ddx.validation.simulation import simulate

__all__ = [
    "Estimate",
    "Evaluation",
    "Report",
    "evaluate_file",
    "parameter_changes",
    "posterior_changes",
    "read_cases",
    "report",
    "simulate",
]
