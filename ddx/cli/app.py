"""Commands. Each one loads what it needs, does one thing, and ends with 0, 1 (some rows rejected) or 2 (nothing done)."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import Annotated

import typer

from ddx import __version__
from ddx.cli.options import case_of
from ddx.cli.streams import drop_output, prepare, printable
from ddx.errors import DdxError, UsageError

app = typer.Typer(
    name="ddx",
    help="Bayesian differential diagnosis, exact and traceable. For research and teaching; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
kb_app = typer.Typer(help="Inspect and check a knowledge base.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(kb_app, name="kb")

Kb = Annotated[str, typer.Option("--kb", help="Shipped knowledge base, or the folder of one.")]
Setting = Annotated[
    str | None, typer.Option("--setting", help="Population that the cases come from. Default: that of the knowledge base.")
]
# The statements about one case.
Present = Annotated[list[str] | None, typer.Option("--present", help="Finding that is present; repeat for more.")]
Absent = Annotated[list[str] | None, typer.Option("--absent", help="Finding that is absent; repeat for more.")]
Uncertain = Annotated[
    list[str] | None,
    typer.Option("--uncertain", help="FINDING=V, V between 0 and 1: likelihood V present, 1 - V absent."),
]
Measure = Annotated[
    list[str] | None, typer.Option("--measure", help="MEASUREMENT=VALUE, such as tsh_mu_l=2.1; repeat for more.")
]
Factors = Annotated[
    list[str] | None, typer.Option("--context", help="Risk factor that is present, or no:FACTOR for an absent one.")
]
Age = Annotated[float | None, typer.Option("--age", help="Age in years.")]
Sex = Annotated[str | None, typer.Option("--sex", help="female or male.")]
Encoding = Annotated[str, typer.Option(help="Character encoding of a CSV file of cases.")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Drop an offending cell instead of its row, and report it.")]


def main() -> None:
    """Run the command line; whatever stops it ends with one text and exit code 2."""
    # The threads of OpenBLAS spin while they wait, on the cores that solve chunks; commands import NumPy, which reads this.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare()
    message = ""
    code: object = 2
    try:
        app()
    except SystemExit as end:
        code = end.code
    except DdxError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'input or output'}: {error.strerror}"
    except Exception:  # a fault of ddx is no rejected row: its code is that of failure
        traceback.print_exc()
        message = "this is a fault of ddx; please report it with the lines above"
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        drop_output()
        if not message:
            closed = isinstance(error, BrokenPipeError)
            why = " was closed before everything was written" if closed else f": cannot be written: {error.strerror}"
            message, code = f"standard output{why}", 2
    if message:
        print(f"ddx: {printable(message)}", file=sys.stderr)
    gc.freeze()  # at its end the interpreter would look through every object once more, for half a second
    sys.exit(code)  # type: ignore[arg-type]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"ddx {__version__}")
        raise typer.Exit


@app.command()
def score(
    cases: Annotated[str, typer.Argument(help="Cases: .csv, .jsonl or .parquet (.gz and .zst for text); - is standard input.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Posteriors, in the same formats; - is standard output.")] = "-",
    kb: Kb = "limb",
    setting: Setting = None,
    rejects: Annotated[
        str | None,
        typer.Option(help="CSV file of rejected rows. Default: the output's name, ending in .rejects.csv, if there are any."),
    ] = None,
    lenient: Lenient = False,
    long: Annotated[bool, typer.Option("--long", help="Write one row per case and cause.")] = False,
    top: Annotated[int, typer.Option(min=0, help="Add columns for the N leading causes; 0: none.")] = 0,
    intervals: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Parameter draws for 90 % intervals (columns CAUSE_low, CAUSE_high), 20 or more; 0: none.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was killed or failed.")] = False,
    input_format: Annotated[
        str | None, typer.Option("--input-format", help="csv, jsonl or parquet, if the name does not tell.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("--output-format", help="csv, jsonl or parquet, if the name of the output does not tell.")
    ] = None,
    encoding: Encoding = "utf-8",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no table of leading causes.")] = False,
) -> None:
    """Score a file of cases: the posterior of every cause for every case.

    Exit code 0: all rows scored; 1: some rows rejected; 2: nothing written.
    """
    from ddx.batch import STREAM, score_file
    from ddx.cli.show import leading_causes, progress_bar
    from ddx.diagnosis import load

    model = load(kb, setting)
    with progress_bar() as progress:
        try:
            report = score_file(
                cases,
                output,
                model,
                rejects=rejects,
                lenient=lenient,
                encoding=encoding,
                input_format=input_format,
                output_format=output_format,
                top=top,
                long=long,
                intervals=intervals,
                seed=seed,
                resume=resume,
                progress=progress,
            )
        except KeyboardInterrupt as stop:
            rest = "standard output is not complete" if output == STREAM else "nothing is written"
            print(f"ddx: interrupted; {str(stop) or rest}", file=sys.stderr)
            raise
    wide_csv = not long and output_format in (None, "csv") and output.endswith(".csv")
    if wide_csv and not quiet and STREAM not in (output, rejects) and sys.stdout is not None:
        try:
            leading_causes(output, model.network.causes, report.scored)
            sys.stdout.flush()
        except OSError as error:  # the posteriors are on the disk
            drop_output()
            print(f"ddx: standard output: cannot be written: {error.strerror}", file=sys.stderr)
    dropped = f", {report.cells_dropped} cells dropped" if report.cells_dropped else ""
    resumed = f", {report.resumed} of them by the run before" if report.resumed else ""
    target = "standard output" if output == STREAM else output
    print(f"{report.scored} cases scored, {report.rejected} rejected{dropped}{resumed} -> {target}", file=sys.stderr)
    if report.rejected:
        raise typer.Exit(1)


@app.command()
def diagnose(
    present: Present = None,
    absent: Absent = None,
    uncertain: Uncertain = None,
    measure: Measure = None,
    context: Factors = None,
    age: Age = None,
    sex: Sex = None,
    kb: Kb = "limb",
    setting: Setting = None,
    top: Annotated[int, typer.Option(min=1, help="How many causes to show.")] = 10,
    intervals: Annotated[
        int, typer.Option(min=0, help="Parameter draws for the 90 % intervals, 20 or more; 0 leaves them out.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Diagnose one case."""
    from ddx.cli.show import diagnosis_json, diagnosis_table
    from ddx.diagnosis import load

    answer = load(kb, setting).diagnose(**case_of(present, absent, uncertain, measure, context, age, sex))
    if json:
        diagnosis_json(answer, intervals, seed)
    else:
        diagnosis_table(answer, top, intervals, seed)


@app.command()
def sensitivity(
    cases: Annotated[
        str | None, typer.Argument(help="File of cases to summarise, as for ddx score, instead of one case from options.")
    ] = None,
    present: Present = None,
    absent: Absent = None,
    uncertain: Uncertain = None,
    measure: Measure = None,
    context: Factors = None,
    age: Age = None,
    sex: Sex = None,
    kb: Kb = "limb",
    setting: Setting = None,
    target: Annotated[str | None, typer.Option(help="Cause whose posterior is watched. Default: the leading one.")] = None,
    level: Annotated[float, typer.Option(help="Coverage of the interval that each parameter is moved over.")] = 0.9,
    top: Annotated[int, typer.Option(min=1, help="How many parameters to show.")] = 15,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Show the smallest changes after which another cause leads or a threshold is crossed."),
    ] = False,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="CSV file of all parameters; - is standard output.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="Tornado diagram of one case: .png, .svg or .pdf. Needs the extra plots.")
    ] = None,
    encoding: Encoding = "utf-8",
) -> None:
    """Show which parameters matter: for one case, or summed up over a file of cases.

    Exit code 0: done; 1: some rows of the file rejected; 2: nothing done.
    """
    from ddx.cli.sensitivity import show_case, show_file
    from ddx.diagnosis import load

    if not 0.0 < level < 1.0:
        raise UsageError(f"--level: got {level:g}, expected a number between 0 and 1")
    given = case_of(present, absent, uncertain, measure, context, age, sex)
    model = load(kb, setting)
    if cases is None:
        show_case(model, given, target, level, top, flips, output, plot)
        return
    used = [option for option, value in (("--target", target), ("--flips", flips), ("--plot", plot)) if value]
    used += [
        f"--{'measure' if name == 'measurements' else name}" for name, value in given.items() if value not in ({}, [], None)
    ]
    if used:
        raise UsageError(f"{used[0]} is for one case, but {cases} is a file of cases; give one or the other")
    if show_file(model, cases, level, top, output, encoding):
        raise typer.Exit(1)


@app.command()
def simulate(
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many cases.")],
    output: Annotated[str, typer.Option("-o", "--output", help="CSV file of cases; - is standard output.")] = "-",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    kb: Kb = "limb",
    setting: Setting = None,
    observed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FRACTION",
            help="Share of the findings that is observed (default 0.2), or KIND=FRACTION for one kind of findings, or for "
            "context; repeat for more.",
        ),
    ] = None,
) -> None:
    """Draw cases from the model, with their true causes in the column final_diagnosis."""
    from ddx.batch import STREAM, check_target
    from ddx.cli.show import write_file
    from ddx.cli.validation import fractions
    from ddx.diagnosis import load
    from ddx.validation import simulate as draw

    check_target(STREAM, output, only_csv=True)
    cases = draw(load(kb, setting), number, seed, observed=fractions(observed or []))
    write_file(cases.to_csv(index=False, lineterminator="\n").encode(), output)
    print(f"{number} cases drawn -> {'standard output' if output == '-' else output}", file=sys.stderr)


@app.command()
def evaluate(
    cases: Annotated[str, typer.Argument(help="Cases with their true causes, as for ddx score; - is standard input.")],
    truth: Annotated[
        str, typer.Option(help="Column of the true causes, separated by ';'; empty: none of the modelled causes.")
    ] = "final_diagnosis",
    kb: Kb = "limb",
    setting: Setting = None,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the reliability table.")] = 10,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals of estimates; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples, and of what chance alone makes.")] = 0,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient", help="Drop an offending cell instead of its row; a truth that is no cause rejects its row still."
        ),
    ] = False,
    encoding: Encoding = "utf-8",
    json: Annotated[
        bool, typer.Option("--json", help="Print all measures, with those of every item, and the rejects as JSON.")
    ] = False,
) -> None:
    """Score cases whose causes are known, and measure how good the posteriors are.

    Exit code 0: all rows scored; 1: some rows rejected; 2: no report.
    """
    from ddx.cli.validation import evaluation_json, evaluation_tables
    from ddx.diagnosis import load
    from ddx.validation import evaluate_file

    model = load(kb, setting)
    found = evaluate_file(
        cases, model, truth=truth, lenient=lenient, encoding=encoding, bins=bins, resamples=resamples, seed=seed
    )
    if json:
        evaluation_json(found, model)
    else:
        evaluation_tables(found, model)
    for reject in found.rejects:
        print(reject, file=sys.stderr)
    dropped = f", {found.cells_dropped} cells dropped" if found.cells_dropped else ""
    print(f"{found.scored} cases scored, {found.rejected} rejected{dropped}", file=sys.stderr)
    if found.rejected:
        raise typer.Exit(1)


@kb_app.command()
def check(path: Annotated[str, typer.Argument(help="Shipped knowledge base, or the folder of one.")] = "limb") -> None:
    """Report every problem of a knowledge base. Exit code 0: none; 2: problems."""
    from ddx.errors import KnowledgeError
    from ddx.knowledge import locate, read_knowledge
    from ddx.logistic import admitted

    knowledge, problems = read_knowledge(locate(path))
    for setting in knowledge.causes_per_patient if knowledge and not problems else ():
        try:
            admitted(knowledge, setting)
        except KnowledgeError as error:
            problems += error.problems
    if problems or knowledge is None:
        raise KnowledgeError(path, problems)
    print(
        f"{knowledge.name} {knowledge.version}: no problems in {len(knowledge.causes)} causes, "
        f"{len(knowledge.findings)} findings, {len(knowledge.context)} context values, "
        f"{len(knowledge.studies)} study rows, {len(knowledge.sources)} sources"
    )


@kb_app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Id or alias of a cause, syndrome, finding (also a graded one), context variable or measurement, or id of "
            "a parameter."
        ),
    ],
    kb: Kb = "limb",
) -> None:
    """Show an item of a knowledge base: its parameters, and the studies behind each."""
    from ddx.cli.kb import show_item
    from ddx.knowledge import load_knowledge

    show_item(load_knowledge(kb), name)


@kb_app.command()
def coverage(
    kb: Kb = "limb",
    estimates: Annotated[bool, typer.Option("--estimates", help="List every parameter without a cited study.")] = False,
) -> None:
    """Show how many parameters rest on a cited study, by kind and by cause, and why the others do not."""
    from ddx.cli.kb import show_coverage
    from ddx.knowledge import load_knowledge

    show_coverage(load_knowledge(kb), estimates)


@kb_app.command()
def diff(
    old: Annotated[str, typer.Argument(help="Shipped knowledge base, or the folder of one.")],
    new: Annotated[str, typer.Argument(help="Shipped knowledge base, or the folder of one.")],
    cases: Annotated[
        str | None, typer.Option(help="Cases to score with both. Default: the examples of a checkout, if present.")
    ] = None,
    setting: Annotated[str | None, typer.Option("--setting", help="Setting of both. Default: that of NEW.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many rows of each table to show.")] = 20,
    encoding: Encoding = "utf-8",
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare two knowledge bases: parameters that changed, and posteriors of example cases that moved.

    Exit code 0: all cases scored with both; 1: some rows of --cases rejected; 2: nothing compared.
    """
    from ddx.cli.diff import show_difference

    if show_difference(old, new, cases, setting, top, encoding, json):
        raise typer.Exit(1)
