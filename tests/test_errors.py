"""Errors that users get: they survive on the way between processes, and name what was wrong."""

import importlib
import pickle
import pkgutil
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

import ddx
from ddx.cases import CaseError, Reject
from ddx.draws import posterior_draws
from ddx.errors import DdxError, KnowledgeError, Problem, UsageError
from ddx.inference import EvidenceTooLarge, Network, posterior
from ddx.network import select

nan = np.nan
REJECT = Reject(3, "a", "tremor", "2", "bad_value", "got 2, expected 0 or 1", "a,2")
ERRORS = [
    DdxError("text"),
    UsageError("age: got -1"),
    KnowledgeError("limb", [Problem("causes.csv", 2, "id", "missing"), Problem("kb.toml", None, "", "empty")]),
    CaseError([REJECT, REJECT.from_row("a,3")] * 11),
    EvidenceTooLarge(1, 34, 7.5, 4.0, [EvidenceTooLarge(3, 30, 5.0, 4.0)]),
]


def _raised(number):
    raise ERRORS[number]


def _kinds(base):
    return {base}.union(*map(_kinds, base.__subclasses__()))


def test_every_error_of_the_package_is_tried():
    for module in pkgutil.walk_packages(ddx.__path__, "ddx."):
        if module.name not in ("ddx.__main__", "ddx.plots", "ddx.spark"):
            importlib.import_module(module.name)
    own = {kind for kind in _kinds(DdxError) if kind.__module__.startswith("ddx.")}
    assert own | {EvidenceTooLarge} == {type(error) for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    for name, value in vars(error).items():
        assert repr(getattr(again, name)) == repr(value), name


def test_errors_come_back_from_another_process():
    with ProcessPoolExecutor(1) as pool:
        for number, error in enumerate(ERRORS):
            with pytest.raises(type(error), match=f"^{re.escape(str(error))}$"):
                pool.submit(_raised, number).result()


def test_no_draws_are_no_error():
    model = ddx.load("limb")
    evidence = model.diagnose(present=["ptosis"], age=50, sex="female").evidence
    assert posterior_draws(model, evidence, 0, 0).shape == (0, 1, len(model.network.causes))
    many = select(evidence, np.zeros(41, dtype=np.intp))
    assert posterior_draws(model, many, 0, 0).shape == (0, 41, len(model.network.causes))


def test_a_network_does_not_change_with_the_arrays_it_was_made_of():
    given = {
        "prior": np.array([0.1, 0.2]),
        "link": np.array([[0.5, 0.2]]),
        "leak": np.array([0.1]),
        "syndrome_link": np.array([[0.3, 0.4]]),
        "syndrome_leak": np.array([0.1]),
        "finding_syndrome": np.array([[0.6]]),
        "context_log_odds": np.array([[0.1, 0.2], [0.3, 0.4]]),
        "context_prior": np.array([0.5, 0.4]),
        "requires": np.array([-1, 0]),
    }
    before = {name: array.copy() for name, array in given.items()}
    network = Network(**given)
    shared = Network(**given, copy=False)
    for array in given.values():
        array[:] = 7
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(network, name), array, err_msg=name)
    assert shared.prior is given["prior"]


def test_a_required_variable_is_a_whole_number():
    arrays = {"context_log_odds": np.zeros((1, 2)), "context_prior": [0.1, 0.2]}
    message = "requires[1]: got 0.7, expected another context index or -1"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Network([0.1], [[0.5]], [0.1], **arrays, requires=[-1, 0.7])
    assert Network([0.1], [[0.5]], [0.1], **arrays, requires=[-1.0, 0.0]).requires.tolist() == [-1, 0]


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float64"])
def test_what_pandas_does_not_know_is_not_observed(dtype):
    network = Network([0.1, 0.2], [[0.5, 0.2], [0.1, 0.6]], [0.1, 0.2])
    frame = pd.DataFrame({"a": [1, None, 0], "b": [None, 0, 1]}, dtype=dtype)
    expected = posterior(network, [[1, nan], [nan, 0], [0, 1]])
    np.testing.assert_array_equal(posterior(network, frame).marginal, expected.marginal)
    with pytest.raises(TypeError):
        posterior(network, [[object(), 1.0]])
