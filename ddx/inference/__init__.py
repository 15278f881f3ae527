"""Exact inference in layered noisy-OR networks: pure functions on arrays, nothing of files or pandas."""

from ddx.inference.bounds import Bounds, bounds
from ddx.inference.exact import EvidenceTooLarge, joined
from ddx.inference.gradient import Gradient, gradient
from ddx.inference.linear import Linear, linear
from ddx.inference.mixture import log_total, mix
from ddx.inference.network import Network
from ddx.inference.posterior import PlanOfCase, Posterior, explain_plan, fitting, posterior
from ddx.inference.single import SinglePosterior, single_cause

__all__ = [
    "Bounds",
    "EvidenceTooLarge",
    "Gradient",
    "Linear",
    "Network",
    "PlanOfCase",
    "Posterior",
    "SinglePosterior",
    "bounds",
    "explain_plan",
    "fitting",
    "gradient",
    "joined",
    "linear",
    "log_total",
    "mix",
    "posterior",
    "single_cause",
]
