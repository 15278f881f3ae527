"""The forms of every cause, as the readers wrote them down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ddx.inference.network import Floats

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Forms:
    """Shares (V,) of the forms of a cause, and finding -> frequency in each of them (V,)."""

    share: Floats
    frequency: dict[str, Floats]


def read_forms() -> dict[str, Forms]:
    """Cause -> its forms."""
    shares = pd.read_csv(HERE / "forms.csv").groupby("cause", sort=False)["share"]
    rows = pd.read_csv(HERE / "frequencies.csv").groupby("cause", sort=False)
    found = {}
    for cause, own in shares:
        members = rows.get_group(cause)
        frequency = {
            str(f): np.array(t.split(";"), dtype=float) for f, t in zip(members["finding"], members["frequencies"], strict=True)
        }
        found[str(cause)] = Forms(own.to_numpy() / own.sum(), frequency)
    return found
