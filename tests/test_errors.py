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
from ddx import sensitivity
from ddx.cases import CaseError, Reject
from ddx.draws import posterior_draws
from ddx.errors import DdxError, KnowledgeError, Problem, UsageError
from ddx.inference import EvidenceTooLarge, Network, posterior
from ddx.network import build_network, select

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


# --- arguments --------------------------------------------------------------------------------------------------------------

CASE = {"present": ["ptosis"], "age": 50, "sex": "female"}
CAUSE, LINK, PRIOR = "myasthenia_gravis", "link:myasthenia_gravis:ptosis", "prior:myasthenia_gravis"


@pytest.fixture(scope="module")
def model():
    return ddx.load("limb", "general")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: ddx.load(5), "name: got 5, expected the name of a shipped knowledge base or the path of a folder"),
        (lambda _: ddx.load(None), "name: got None, expected the name of a shipped knowledge base or the path of a folder"),
        (
            lambda _: ddx.load("limb", setting=3),
            "unknown setting 3; known: general, primary_care, emergency, neurology_clinic, balanced",
        ),
        (
            lambda m: build_network(m.knowledge, "general", {"link:myasthenia_gravis:ptosi": 0.5}),
            "unknown parameter 'link:myasthenia_gravis:ptosi'; nearest: link:myasthenia_gravis:ptosis, ",
        ),
        (lambda m: build_network(m.knowledge, "general", {"nope": 1}), "unknown parameter 'nope'"),
        (lambda m: build_network(m.knowledge, "general", {LINK: 2.0}), f"{LINK}: got 2, expected a number inside (0, 1)"),
        (lambda m: build_network(m.knowledge, "general", {LINK: nan}), f"{LINK}: got nan, expected a number inside (0, 1)"),
        (lambda m: build_network(m.knowledge, "general", {LINK: "x"}), f"{LINK}: got 'x', expected a number inside (0, 1)"),
        (
            lambda m: build_network(m.knowledge, "general", {"or:stroke:diabetes": -1}),
            "or:stroke:diabetes: got -1, expected a number above 0",
        ),
        (lambda m: sensitivity.sobol(m, CASE, CAUSE, n=1024.0), "n: got 1024.0, expected a whole number"),
        (lambda m: sensitivity.sobol(m, CASE, CAUSE, n=8, seed=-1), "seed: got -1, expected 0 or more"),
        (lambda m: sensitivity.curve(m, CASE, CAUSE, LINK, points=-1), "points: got -1, expected 1 or more"),
        (lambda m: sensitivity.curve(m, CASE, CAUSE, LINK, values=["x"]), f"{LINK}: got 'x', expected a number inside (0, 1)"),
        (lambda m: sensitivity.surface(m, CASE, CAUSE, LINK, PRIOR, points=2.5), "points: got 2.5, expected a whole number"),
        (
            lambda m: sensitivity.surface(m, CASE, CAUSE, LINK, PRIOR, level=1.0),
            "level: got 1, expected a number inside (0, 1)",
        ),
        (lambda m: sensitivity.one_way(m, CASE, None), "target: unknown cause None"),
        (lambda m: sensitivity.one_way(m, CASE, CAUSE, level="x"), "level: got 'x', expected a number inside (0, 1)"),
        (lambda m: sensitivity.one_way(m, CASE, CAUSE, [], level=2), "level: got 2, expected a number inside (0, 1)"),
        (
            lambda m: sensitivity.intervals(m, pd.DataFrame([{"ptosis": 1}]), level=None),
            "level: got None, expected a number inside",
        ),
    ],
)
def test_an_argument_is_refused(model, call, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        call(model)


FRAME = pd.DataFrame([{"ptosis": 1}])


@pytest.mark.parametrize(
    "call",
    [
        lambda m: sensitivity.one_way(m, CASE, CAUSE),
        lambda m: sensitivity.summary(m, FRAME),
        lambda m: sensitivity.function(m, CASE, CAUSE, LINK),
        lambda m: sensitivity.curve(m, CASE, CAUSE, LINK),
        lambda m: sensitivity.surface(m, CASE, CAUSE, LINK, PRIOR),
        lambda m: sensitivity.flips(m, CASE),
        lambda m: sensitivity.intervals(m, FRAME),
        lambda m: sensitivity.sobol(m, CASE, CAUSE),
        lambda m: sensitivity.setting_shift(m, CASE),
        lambda m: sensitivity.prevalence_shift(m, CASE, CAUSE),
        lambda m: sensitivity.leave_one_source_out(m, FRAME),
        lambda m: ddx.score_file("cases.csv", "out.csv", m),
    ],
)
def test_the_name_of_a_knowledge_base_is_no_model(call):
    with pytest.raises(UsageError, match=r"^model: got 'limb', expected a Model; ddx\.load\('limb'\) makes one$"):
        call("limb")


def test_a_series_will_do_for_a_mapping(model):
    said = model.diagnose(uncertain={"ptosis": 0.8}, context={"diabetes": True}, measurements={"tsh_mu_l": 2.1})
    series = model.diagnose(
        uncertain=pd.Series({"ptosis": 0.8}), context=pd.Series({"diabetes": True}), measurements=pd.Series({"tsh_mu_l": 2.1})
    )
    assert series.posterior.equals(said.posterior)


def test_a_function_of_a_probability_ends_where_it_ends():
    ratio = sensitivity.Ratio(0.1, 0.5, 0.8, 0.4, start=0.05)
    np.testing.assert_array_equal(ratio([-0.1, 0.0, 1.0, 2.0]), [nan, 0.125 / 0.82, (0.1 + 0.5) / (0.8 + 0.4), nan])
    np.testing.assert_array_equal(np.isnan(ratio.derivative([-0.1, 0.0, 1.0, 2.0])), [True, False, False, True])
    assert ratio.reaching(0.4) == pytest.approx(0.22 / 0.34)
    assert np.isnan(ratio.reaching(0.6))  # at 1.46
    assert np.isnan(ratio.reaching(0.13))  # at 0.009, below the start


def test_a_link_that_does_nothing_where_it_stands_says_so(model):
    name = "link:alcoholic_polyneuropathy:monofilament_loss"
    message = (
        f"{name}: leak and syndromes bring the finding as often without it, so that it does nothing until it is above that; "
        "use sensitivity.curve"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        sensitivity.function(model, {"present": ["monofilament_loss"]}, "alcoholic_polyneuropathy", name)
    message = "prior:stroke: the posterior is no ratio of linear functions of it; use sensitivity.curve"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        sensitivity.function(model, CASE, CAUSE, "prior:stroke")


def test_blanks_around_ids_are_no_part_of_them(model):
    padded = model.diagnose(present=[" ptosis"], absent=["fever "], uncertain={" diplopia ": 0.8}, context={"diabetes ": True})
    clean = model.diagnose(present=["ptosis"], absent=["fever"], uncertain={"diplopia": 0.8}, context={"diabetes": True})
    assert padded.posterior.equals(clean.posterior)
    with pytest.raises(UsageError, match=r"^uncertain: 'ptosis' is given twice; keep one$"):
        model.diagnose(uncertain={"ptosis": 0.2, " ptosis": 0.8})


def test_a_target_may_be_an_alias(model):
    assert sensitivity.one_way(model, CASE, "cva").equals(sensitivity.one_way(model, CASE, "stroke"))
    shifts = [sensitivity.prevalence_shift(model, CASE, name) for name in ("cva", "stroke")]
    assert shifts[0].equals(shifts[1])
    with pytest.raises(UsageError, match=r"^target: unknown cause 'ptosis'$"):
        sensitivity.one_way(model, CASE, "ptosis")


def test_a_link_or_a_leak_may_be_0(limb):
    network = build_network(limb.knowledge, "general", {LINK: 0.0, "leak:ptosis": 0})
    at = network.findings.index("ptosis")
    assert network.leak[0, at] == 0.0
    assert network.link[at, network.causes.index("myasthenia_gravis")] == 0.0
