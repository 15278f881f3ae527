"""Which parameter matters to the posterior of a case, how sure it is, and which study it rests on.

Parameters go by ids such as link:myasthenia_gravis:ptosis, prior:stroke@emergency, or:stroke:atrial_fibrillation and
leak:fatigue@age_75_plus; ``ddx kb show`` lists those of a cause or finding.
"""

from ddx.sensitivity.flips import LEADING, THRESHOLD, flips
from ddx.sensitivity.functions import Ratio, curve, function, surface
from ddx.sensitivity.oneway import one_way, summary
from ddx.sensitivity.sampling import intervals, sobol
from ddx.sensitivity.studies import leave_one_source_out, leave_one_study_out, prevalence_shift, setting_shift

__all__ = [
    "LEADING",
    "THRESHOLD",
    "Ratio",
    "curve",
    "flips",
    "function",
    "intervals",
    "leave_one_source_out",
    "leave_one_study_out",
    "one_way",
    "prevalence_shift",
    "setting_shift",
    "sobol",
    "summary",
    "surface",
]
