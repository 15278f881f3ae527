"""``ddx kb diff``."""

from __future__ import annotations

import json as json_module
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

import ddx
from ddx.cli.show import console
from ddx.cli.validation import finite, table
from ddx.knowledge.schema import OF_SETTINGS

if TYPE_CHECKING:
    import pandas as pd

    from ddx.knowledge import KnowledgeBase

# The example cases of a checkout; an installed package has none.
EXAMPLES = Path(ddx.__file__).resolve().parents[1] / "experiments" / "examples" / "cases.csv"
# A move that a reader will notice.
FAR = 0.01
# Spreads that differ by less print alike.
_SAME = 1e-6


def show_difference(old: str, new: str, cases: str | None, setting: str | None, top: int, encoding: str, json: bool) -> bool:
    """Print what differs; whether rows of the cases that were asked for had to be left out."""
    from ddx.diagnosis import Model
    from ddx.knowledge import load_knowledge
    from ddx.validation import parameter_changes, posterior_changes, read_cases

    before, after = load_knowledge(old), load_knowledge(new)
    setting = after.default_setting if setting is None else setting
    models = Model(before, setting), Model(after, setting)
    parameters = parameter_changes(before, after)
    source = cases if cases is not None else str(EXAMPLES) if EXAMPLES.is_file() else None
    posteriors, compared, rejects = None, 0, []
    if source is not None:
        frame, lines, ragged = read_cases(source, encoding)
        posteriors, unread = posterior_changes(*models, frame, lines)
        rejects = sorted([*ragged, *unread], key=lambda reject: reject.line)
        compared = len(frame) - len({reject.line for reject in unread})
    if json:
        document = {
            "old": _name(before),
            "new": _name(after),
            "setting": setting,
            "parameters": parameters.to_dict("records"),
            **{name: _nested(_of_settings(before, after, name)) for name in OF_SETTINGS},
            "settings_with_forms": {"old": before.settings_with_forms, "new": after.settings_with_forms},
            "forms": [{"what": what, "old": x, "new": y} for what, x, y in _forms(before, after)],
            "cases": compared,
            "posteriors": [] if posteriors is None else posteriors.to_dict("records"),
        }
        print(json_module.dumps(finite(document), indent=2, allow_nan=False))
    else:
        out = console()
        out.print(
            f"{before.name} {before.version} ({before.digest[:12]}) -> {after.name} {after.version} ({after.digest[:12]})"
        )
        _parameters(out, parameters, top)
        for name in OF_SETTINGS:
            for where, old_number, new_number in _of_settings(before, after, name):
                numbers = (f"{x:g}" if x else "not stated" for x in (old_number, new_number))
                out.print(f"{name.replace('_', ' ')}, {', '.join(where)}: {' -> '.join(numbers)}")
        if before.settings_with_forms != after.settings_with_forms:
            with_forms = (", ".join(kb.settings_with_forms) or "no setting" for kb in (before, after))
            out.print(f"settings with forms: {' -> '.join(with_forms)}")
        forms = _forms(before, after)
        for what, old_text, new_text in forms[:top]:
            out.print(f"{what}: {old_text or 'not there'} -> {new_text or 'not there'}")
        _more(out, len(forms), top)
        if posteriors is not None:
            _posteriors(out, posteriors, compared, setting, top)
    if cases is None:
        if rejects:
            left_out = len({reject.line for reject in rejects})
            print(f"{left_out} example cases cannot be read with both knowledge bases", file=sys.stderr)
        return False
    for reject in rejects:
        print(reject, file=sys.stderr)
    return bool(rejects)


def _parameters(out: Console, changes: pd.DataFrame, top: int) -> None:
    said = {"moved": "moved", "added": "added", "removed": "removed", "spread": "with another spread"}
    counts = [f"{int((changes['what'] == what).sum())} {text}" for what, text in said.items()]
    out.print(f"\nparameters: {', '.join(counts)}")
    if len(changes):
        rows, marked = [], False
        for name, what, before, after, change, was, spread in changes.head(top).itertuples(index=False):
            other = not math.isclose(was, spread, rel_tol=_SAME)  # nan, of what was added or removed, is close to nothing
            marked |= other
            old, new = _value(before, was if other else math.nan), _value(after, spread if other else math.nan)
            rows.append([name, what, old, new, "" if math.isnan(change) else f"{change:+.3f}"])
        out.print(table(["parameter", "what", "old", "new", "log odds"], rows, ["what"]))
        if marked:
            out.print(
                "±: standard deviation (of the log odds, or of the logarithm of a ratio or rate), where it is another one"
            )
        _more(out, len(changes), top)


def _of_settings(
    before: KnowledgeBase, after: KnowledgeBase, name: str
) -> list[tuple[tuple[str, ...], float | None, float | None]]:
    """Settings, or settings and kinds of findings, of which a table of kb.toml states another number, and both numbers."""
    old_ones, new_ones = (_flat(getattr(kb, name)) for kb in (before, after))
    pairs = ((key, old_ones.get(key), new_ones.get(key)) for key in {**old_ones, **new_ones})
    return [(key, old, new) for key, old, new in pairs if old != new]


def _flat(numbers: Mapping[str, float | Mapping[str, float]]) -> dict[tuple[str, ...], float]:
    """(Setting,), or (setting, kind), -> number."""
    flat: dict[tuple[str, ...], float] = {}
    for setting, stated in numbers.items():
        flat |= {(setting, kind): x for kind, x in stated.items()} if isinstance(stated, Mapping) else {(setting,): stated}
    return flat


def _nested(changes: list[tuple[tuple[str, ...], float | None, float | None]]) -> dict[str, Any]:
    """Setting (-> kind) -> old and new number."""
    found: dict[str, Any] = {}
    for (*outer, last), old, new in changes:
        where = found
        for key in outer:
            where = where.setdefault(key, {})
        where[last] = {"old": old, "new": new}
    return found


def _forms(before: KnowledgeBase, after: KnowledgeBase) -> list[tuple[str, str | None, str | None]]:
    """Shares of forms and frequencies of findings in them that differ, as the files have them; None: no such row."""
    old, new = (
        {f"share of the form {form.id}": f"{form.share:g}" for form in kb.forms.values()}
        | {
            f"{row.finding} in the forms of {row.cause}": ";".join(f"{p:g}" for p in row.frequencies)
            for row in kb.form_findings.values()
        }
        for kb in (before, after)
    )
    return [(what, old.get(what), new.get(what)) for what in {**old, **new} if old.get(what) != new.get(what)]


def _posteriors(out: Console, changes: pd.DataFrame, compared: int, setting: str, top: int) -> None:
    far = int((changes["change"].abs() >= FAR).sum())
    out.print(f"\nposteriors of {compared} cases, setting {setting}: {len(changes)} moved, {far} of them by {FAR:g} or more")
    if len(changes):
        rows = [
            [case, cause, f"{before:.4f}", f"{after:.4f}", f"{change:+.4f}"]
            for case, cause, before, after, change in changes.head(top).itertuples(index=False)
        ]
        out.print(table(["case", "cause", "old", "new", "change"], rows, ["cause"]))
        _more(out, len(changes), top)


def _more(out: Console, rows: int, top: int) -> None:
    if rows > top:
        out.print(f"and {rows - top} more; --top shows them")


def _value(value: float, spread: float) -> str:
    """A value, and its standard deviation unless that is nan."""
    if math.isnan(value):
        return ""
    return f"{value:.4g}" if math.isnan(spread) else f"{value:.4g} ± {spread:.3g}"


def _name(kb: KnowledgeBase) -> dict[str, Any]:
    return {"name": kb.name, "version": kb.version, "digest": kb.digest}
