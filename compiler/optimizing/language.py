"""The shapes of what goes with a program: data, metrics, `optimize`, tests and exports."""

from __future__ import annotations

from lmprog.compiler.exporters import OTHERS
from lmprog.compiler.shape import Anything, Boolean, Choice, Either, ListOf, MapOf, Number, Record, Text

VALUE = Anything(about="A value; ${{ }} inside it is one typed expression.")
ARGUMENTS = MapOf(VALUE, "argument", about="Arguments by name: plain values or ${{ expressions }}.")
PYTHON = Text(
    r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$",
    "./file.py:function or package.module:function",
    about="A Python function: ./file.py:function or package.module:function.",
)

SPLIT = Either(
    scalar=Text(),
    mapping=Record(
        {
            "path": Text(about="A jsonl, csv or parquet file."),
            "hf": Text(about="A data set of the Hugging Face hub."),
            "split": Text(about="Its split."),
            "columns": MapOf(Text(), "column", about="Name in the program -> column of the file."),
            "where": MapOf(
                Anything(), "column", free=True, about="Only the rows with this value, or one of these, in a column."
            ),
            "part": ListOf(
                Number(least=0, most=1),
                about="Only the rows between two fractions, after a shuffle: [0, 0.8], [0.8, 1].",
            ),
            "limit": Number(whole=True, least=1, about="Only the first rows."),
            "private": ListOf(Text(), about="Private columns."),
        },
        one_of=("path", "hf"),
        only={"split": ("hf",)},
    ),
)
SHARE = Number(least=0, most=1)
DATA = Record(
    {
        "train": SPLIT,
        "dev": SPLIT,
        "test": SPLIT,
        "fractions": Record(
            {
                "from": SPLIT,
                "train": SHARE,
                "dev": SHARE,
                "test": SHARE,
                "seed": Number(whole=True),
            },
            required=("from",),
            about="Cuts one file.",
        ),
    }
)

METRIC = Record(
    {
        "python": PYTHON,
        "program": Text(about="A program with one numeric output: an LM judge."),
        "value": Anything(about="Arithmetic over metrics.<id>."),
        "metric": Text(about="A metric of another package, by its name in the entry points `lmprog.metrics`."),
        "with": ARGUMENTS,
        "range": ListOf(Number(), about="[lowest, highest].", default="[0, 1]"),
        "on_error": Number(about="The score of a row whose metric failed."),
        "lms": MapOf(Text(), "model", about="Rebinds the models of a judge: its id -> an id of this program."),
    },
    one_of=("python", "program", "value", "metric"),
    only={"with": ("python", "program", "metric"), "lms": ("program",)},
)

TUNABLE = ("instructions", "demos", "weights", "layout")
OPTIMIZE = Record(
    {
        "metric": Text(about="What is reported, and what stages choose by."),
        "reward": Either(
            scalar=Text(),
            mapping=MapOf(Text(), "module"),
            about="The metric that training of weights follows, where it is another; or one by module.",
        ),
        "train": Choice(("train", "dev"), about="The rows that are learnt from.", default="train"),
        "validate": Choice(("train", "dev"), about="The rows that choose.", default="dev"),
        "tune": MapOf(ListOf(Choice(TUNABLE)), "module", about="What may change, by module."),
        "stages": ListOf(
            Either(scalar=Text(), mapping=MapOf(Anything(), "stage")),
            1,
            about="Optimizers in order, with options; `alternate: {rounds, of}` repeats stages.",
        ),
        "budget": Record(
            {
                key: Number(least=0)
                for key in ("lm_calls", "prompt_tokens", "completion_tokens", "tokens", "usd", "seconds", "minutes")
            }
        ),
        "seed": Number(whole=True),
        "proposer": Text(about="The LM that writes instructions."),
        "adapters": Choice(
            ("per_lm", "per_module"), about="Who shares an adapter that `grpo` trains.", default="per_lm"
        ),
        "accept": Choice(
            ("composition", "stage", "point"),
            about="What is tested on the confirming dev rows: the whole, each stage, or nothing.",
        ),
        "instructions": MapOf(ListOf(Text()), "module", about="Candidates by module."),
        "declassify": Text(about="Why others may read what is written of private rows: demos and instructions."),
    },
    required=("metric", "stages"),
)

_TEST_FORMS = (("inputs", "expect"), ("data", "metric", "at_least"))
TESTS = Either(
    sequence=ListOf(
        Record(
            {
                "name": Text(),
                "inputs": MapOf(Anything(), "input"),
                "expect": MapOf(Anything(), "output"),
                "data": Choice(("train", "dev", "test")),
                "metric": Text(),
                "at_least": Number(),
            },
            forms=_TEST_FORMS,
        )
    ),
    mapping=MapOf(
        Record(
            {
                "inputs": MapOf(Anything(), "input"),
                "expect": MapOf(Anything(), "output"),
                "data": Choice(("train", "dev", "test")),
                "metric": Text(),
                "at_least": Number(),
            },
            forms=_TEST_FORMS,
        ),
        "test",
        free=True,
    ),
    about="Examples with inputs and expect; gates with data, metric, at_least.",
)

EXPORT = Record(
    {
        "traces": Either(
            scalar=Text(),
            mapping=Record(
                {
                    "otlp": Anything(about="A collector's address for OTLP over HTTP; may be ${{ env.NAME }}."),
                    "headers": MapOf(
                        Anything(), "header", free=True, about="Sent with each request; ${{ env.NAME }} for a secret."
                    ),
                    "content": Boolean(
                        about="Whether prompts, replies and what tools are given and give are sent too."
                    ),
                },
                required=("otlp",),
                only={"headers": ("otlp",), "content": ("otlp",)},
                others=OTHERS,
            ),
            about="A file of JSON lines, or {otlp, headers, content}: OpenTelemetry spans.",
        ),
    },
    about="Where traces go beside the run directory.",
)
