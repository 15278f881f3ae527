"""Silence as evidence: a network in which a finding that a description leaves out is not simply one that was not observed.

A description names only a part m (counted) of the findings that a cause brings; it is silent about one of them with probability
1 - m * P(finding | cause). That is a second, fictitious finding, "named", which is absent, with m times the link of the first
one and no leak: what the cause did not bring is hardly ever named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ddx.network import Evidence, LayeredNetwork


def hearing(network: LayeredNetwork, named: Mapping[tuple[str, str], float]) -> LayeredNetwork:
    """The network with a second column for every finding, for its being named.

    ``named``: cause and finding -> how many of those that the cause brings are named; 0 for what is not there.
    """
    rate = np.array([[named.get((cause, finding), 0.0) for cause in network.causes] for finding in network.findings])
    return replace(
        network,
        findings=(*network.findings, *(f"{finding} named" for finding in network.findings)),
        link=np.concatenate([network.link, network.in_columns(rate, -1) * network.link]),
        leak=np.pad(network.leak, ((0, 0), (0, len(rate)))),
        finding_syndrome=np.pad(network.finding_syndrome, ((0, len(rate)), (0, 0))),
    )


def heard(evidence: Evidence, n_findings: int) -> Evidence:
    """The evidence, and that every finding which is not stated is not named."""
    named = np.zeros((len(evidence), n_findings))
    named[:, evidence.columns] = np.where(np.isnan(evidence.finding), 0.0, np.nan)
    columns = np.concatenate([evidence.columns, n_findings + np.arange(n_findings)])
    return replace(evidence, columns=columns, finding=np.concatenate([evidence.finding, named], axis=1))
