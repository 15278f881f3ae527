"""What each reader wrote down of the forms, and the mean of all: shares, and frequencies on the logit scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ddx.forms import LARGEST, SMALLEST
from ddx.inference.network import Floats
from ddx.knowledge import KnowledgeBase

READERS = ("reader_1", "reader_2", "reader_3")
Written = dict[tuple[str, str], list[Floats]]


def written() -> Written:
    """(Cause, finding), or (cause, "") for the shares, -> a number for every form (V,) of each reader."""
    table = pd.read_csv(Path(__file__).parent / "readers.csv", keep_default_na=False)
    rows = table[["cause", "finding", *READERS]].itertuples(index=False, name=None)
    return {(cause, finding): [np.array(own.split(";"), dtype=float) for own in numbers] for cause, finding, *numbers in rows}


def shares(numbers: Sequence[Floats]) -> Floats:
    return np.mean([own / own.sum() for own in numbers], axis=0)


def frequencies(numbers: Sequence[Floats]) -> Floats:
    return np.asarray(expit(np.mean([logit(own.clip(SMALLEST, LARGEST)) for own in numbers], axis=0)))


def of_readers(kb: KnowledgeBase, which: Sequence[int]) -> KnowledgeBase:
    """The base with the forms as some of the readers see them."""
    table = {key: [numbers[i] for i in which] for key, numbers in written().items()}
    share = {cause: iter(shares(numbers).tolist()) for (cause, finding), numbers in table.items() if not finding}
    rows = {
        row.id: replace(row, frequencies=tuple(frequencies(table[row.cause, row.finding]).tolist()))
        for row in kb.form_findings.values()
    }
    forms = {form.id: replace(form, share=next(share[form.cause])) for form in kb.forms.values()}
    return replace(kb, forms=MappingProxyType(forms), form_findings=MappingProxyType(rows))


def agreement() -> tuple[float, float]:
    """Correlation between two readers, mean of the three pairs: of frequencies over the forms of a cause, on the logit scale
    and beside their mean, and of the logarithms of shares.
    """
    table, readers = written(), range(len(READERS))
    of_findings = [numbers for (_, finding), numbers in table.items() if finding]
    of_shares = [numbers for (_, finding), numbers in table.items() if not finding]
    patterns = [np.concatenate([_centred(numbers[i]) for numbers in of_findings]) for i in readers]
    return _mean_correlation(patterns), _mean_correlation([np.log(np.concatenate([x[i] for x in of_shares])) for i in readers])


def _centred(numbers: Floats) -> Floats:
    logits = logit(numbers.clip(SMALLEST, LARGEST))
    return np.asarray(logits - logits.mean())


def _mean_correlation(numbers: Sequence[Floats]) -> float:
    return float(np.corrcoef(numbers)[np.triu_indices(len(numbers), 1)].mean())
