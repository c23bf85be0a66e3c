"""The shapes of `data`, `metrics`, `optimize`, `tests` and `export` in a spec."""

from __future__ import annotations

from dataclasses import replace

from lmprog.compiler.exporters import OTHERS
from lmprog.compiler.shape import (
    Anything,
    Boolean,
    Choice,
    Either,
    Expr,
    Lazy,
    ListOf,
    MapOf,
    Number,
    Record,
    Shape,
    Text,
)

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
            "path": Text(about="A jsonl, csv or parquet file.", example="train.jsonl"),
            "hf": Text(
                about="A data set of the Hugging Face hub: owner/name, or owner/name:config.", example="owner/name"
            ),
            "split": Text(
                about="Its split; a slice such as train[:200] is one.", default="the key's own name", example="train"
            ),
            "columns": MapOf(
                Text(),
                "column",
                about="Name in the program -> column of the file.",
                default="columns keep their names",
                example="{label: category}",
            ),
            "where": MapOf(
                Anything(),
                "column",
                free=True,
                about="Only the rows with this value, or one of these, in a column.",
                default="all rows",
                example="{hops: [3, 4]}",
            ),
            "part": ListOf(
                Number(least=0, most=1),
                about="Only the rows between two fractions, after a shuffle: [0, 0.8], [0.8, 1].",
                default="all rows, in their order",
                example="[0, 0.8]",
            ),
            "limit": Number(whole=True, least=1, about="Only the first rows.", default="all rows", example="200"),
            "private": ListOf(
                Text(),
                about="Private columns, beside those that feed private inputs.",
                default="none",
                example="[text]",
            ),
            "feedback": Boolean(
                about="The rows are those of `lmprog rows`: stages read their columns score, comment and answer as feedback.",
                default="false",
                example="true",
            ),
        },
        one_of=("path", "hf"),
        only={"split": ("hf",)},
    ),
)
_SHARE = Number(least=0, most=1)
DATA = Record(
    {
        "train": replace(SPLIT, about="The rows that stages learn from.", default="none", example="train.jsonl"),
        "dev": replace(
            SPLIT, about="The rows that choose, and confirm the choice.", default="none", example="dev.jsonl"
        ),
        "test": replace(
            SPLIT,
            about="The rows that are scored once, at the end of an optimization.",
            default="none",
            example="{path: all.csv, limit: 100}",
        ),
        "fractions": Record(
            {
                "from": replace(SPLIT, about="The file that is cut.", example="all.csv"),
                "train": replace(_SHARE, about="The share of train.", default="no train rows", example="0.6"),
                "dev": replace(_SHARE, about="The share of dev.", default="no dev rows", example="0.2"),
                "test": replace(_SHARE, about="The share of test.", default="no test rows", example="0.2"),
                "seed": Number(whole=True, about="The seed of the shuffle.", default="0", example="3"),
            },
            required=("from",),
            about="Cuts one file into splits.",
            default="none",
            example="{from: all.csv, train: 0.6, dev: 0.2, test: 0.2}",
        ),
    }
)

METRIC = Record(
    {
        "python": replace(PYTHON, example="./metrics.py:same"),
        "program": Text(
            about="A program with one numeric output, an LM judge; it may explain the score in an output `feedback`.",
            example="./judge.yaml",
        ),
        "value": Anything(about="Arithmetic over metrics.<id>.", example="0.5 * metrics.right + 0.5"),
        "metric": Text(
            about="A metric of another package, by its name in the entry points `lmprog.metrics`.", example="closeness"
        ),
        "with": replace(
            ARGUMENTS,
            about="Arguments by name: expressions over inputs, outputs, row and trace.",
            default="none",
            example='{found: "${{ outputs.label }}", wanted: "${{ row.label }}"}',
        ),
        "range": ListOf(
            Number(), about="The lowest and the highest score: [lowest, highest].", default="[0, 1]", example="[0, 10]"
        ),
        "on_error": Number(
            about="The score of a row whose metric failed.", default="the row is counted as an error", example="0"
        ),
        "lms": MapOf(
            Text(),
            "model",
            about="Rebinds the models of a judge: its id -> an id of this program.",
            default="those of the judge",
            example="{critic: student}",
        ),
    },
    one_of=("python", "program", "value", "metric"),
    only={"with": ("python", "program", "metric"), "lms": ("program",)},
)

TUNABLE = ("instructions", "demos", "weights", "layout")
_BUDGET = {
    "lm_calls": ("Most LM calls.", "5000"),
    "prompt_tokens": ("Most tokens of prompts.", "20000000"),
    "completion_tokens": ("Most tokens of replies.", "2000000"),
    "tokens": ("Most tokens of prompts and replies together.", "20000000"),
    "usd": ("Most US dollars.", "25"),
    "seconds": ("Most seconds.", "900"),
    "minutes": ("Most minutes.", "60"),
}
OPTIMIZE = Record(
    {
        "metric": Text(about="What is reported, and what stages choose by.", example="right"),
        "reward": Either(
            scalar=Text(),
            mapping=MapOf(Text(), "module"),
            about="The metric that training of weights follows, where it is another; or one by module.",
            default="`metric`",
            example="right",
        ),
        "train": Choice(("train", "dev"), about="The rows that are learnt from.", default="train", example="train"),
        "validate": Choice(("train", "dev"), about="The rows that choose.", default="dev", example="dev"),
        "tune": MapOf(
            ListOf(Choice(TUNABLE)),
            "module",
            about="What may change, by module: instructions, demos, layout, weights.",
            default="instructions and demos of every module, and weights where the model runs in this process",
            example="{classify: [instructions, demos]}",
        ),
        "stages": ListOf(
            Either(scalar=Text(), mapping=MapOf(Anything(), "stage")),
            1,
            about="Optimizers in order, with options; `alternate: {rounds, of}` repeats stages.",
            example="[prompt_search: {trials: 12}]",
        ),
        "budget": Record(
            {
                key: Number(least=0, about=about, default="no limit", example=example)
                for key, (about, example) in _BUDGET.items()
            },
            about="Limits of the whole optimization; what does not fit is refused.",
            default="no limit",
            example="{usd: 25, minutes: 60}",
        ),
        "seed": Number(whole=True, about="The seed of every random draw.", default="0", example="1"),
        "proposer": Text(about="The LM that writes instructions.", default="none are written", example="student"),
        "adapters": Choice(
            ("per_lm", "per_module"),
            about="Who shares an adapter that a stage of weights trains.",
            default="per_lm",
            example="per_module",
        ),
        "accept": Choice(
            ("composition", "stage", "point"),
            about="What is tested on the confirming dev rows: the whole, each stage, or nothing.",
            default="composition",
            example="stage",
        ),
        "instructions": MapOf(
            ListOf(Text()),
            "module",
            about="Candidates of your own, by module.",
            default="none",
            example="{classify: [Name the topic of the message.]}",
        ),
        "report_to": ListOf(
            Choice(("mlflow", "wandb")),
            about="Experiment trackers that get the figures of all stages, the overlay and the report.",
            default="none",
            example="[mlflow]",
        ),
        "batch": Boolean(
            about="Whether dev and test scores around the stages wait for batches of the provider, at half the price.",
            default="false",
            example="true",
        ),
        "declassify": Text(
            about="Why others may read what is written of private rows: demos and instructions.",
            default="private rows are not written into an overlay",
            example="the overlay stays in our own repository",
        ),
    },
    required=("metric", "stages"),
)

_EXPECTED: Shape = Anything(known=Lazy(lambda: CHECKS, "checks"))
CHECKS: Record = Record(
    {
        "equals": Anything(
            about="The value itself, where it could be taken for checks, or has a tolerance.", example="refund"
        ),
        "within": Number(
            least=0, about="The greatest distance from the number of `equals`.", default="rounding alone", example="0.5"
        ),
        "contains": Anything(
            about="A text that stands in the text, or an item of the list; of several, each.", example="[refund]"
        ),
        "excludes": Anything(
            about="A text that does not stand in the text, or no item of the list; of several, none.", example="[other]"
        ),
        "regex": Text(about="A regular expression of Python that is found in the text.", example="^re"),
        "one_of": ListOf(Anything(), 1, about="The values of which it must be one.", example="[refund, other]"),
        "at_least": Number(about="The smallest number that passes.", example="0.5"),
        "at_most": Number(about="The greatest number that passes.", example="3"),
        "partial": MapOf(
            Lazy(lambda: _EXPECTED, "expected"),
            "field",
            free=True,
            about="The fields of an object that matter, each with a value or with checks.",
            example="{city: {regex: ^B}}",
        ),
    },
    about="Checks in place of a value; all of them must hold.",
)

_TEST_FORMS = (("inputs",), ("data", "metric", "at_least"))
_OF_EXAMPLES = {key: ("inputs",) for key in ("expect", "assert")} | {
    key: ("inputs", "data") for key in ("metric", "at_least")
}
_TEST = {
    "inputs": MapOf(Anything(), "input", about="The inputs of an example.", example="{text: I want my money back}"),
    "expect": MapOf(
        Lazy(lambda: _EXPECTED, "expected"),
        "output",
        about="The outputs that it must have, each a value or checks; {} asks for no failure.",
        default="any outputs will do",
        example="{label: refund}",
    ),
    "assert": Either(
        scalar=Expr(),
        sequence=ListOf(Expr(), 1),
        about="An expression over inputs, outputs, vars and trace that must be true, or several.",
        default="none",
        example="len(outputs.label) < 20 and trace.calls <= 3",
    ),
    "data": Choice(("train", "dev", "test"), about="The rows of a score gate.", example="dev"),
    "metric": Text(
        about="The metric of a score gate; of an example, one that reads what the example has.", example="right"
    ),
    "at_least": Number(about="The mean that passes, or the score of the example.", example="0.8"),
}
TESTS = Either(
    sequence=ListOf(
        Record(
            {"name": Text(about="The test's name.", default="`test` and its number", example="refunds"), **_TEST},
            forms=_TEST_FORMS,
            only=_OF_EXAMPLES,
        )
    ),
    mapping=MapOf(Record(_TEST, forms=_TEST_FORMS, only=_OF_EXAMPLES), "test", free=True),
    about="By name, or as a list: examples with inputs, and what must hold; gates with data, metric, at_least.",
    default="none",
    example="{refunds: {inputs: {text: I want my money back}, expect: {label: refund}}}",
)

EXPORT = Record(
    {
        "traces": Either(
            scalar=Text(),
            mapping=Record(
                {
                    "otlp": Anything(
                        about="A collector's address for OTLP over HTTP; may be ${{ env.NAME }}.",
                        example="http://localhost:4318/v1/traces",
                    ),
                    "headers": MapOf(
                        Anything(),
                        "header",
                        free=True,
                        about="Sent with each request; ${{ env.NAME }} for a secret.",
                        default="none",
                        example='{Authorization: "${{ env.TRACE_KEY }}"}',
                    ),
                    "content": Boolean(
                        about="Whether prompts, replies and what tools are given and give are sent too.",
                        default="false",
                        example="true",
                    ),
                    "metrics": Boolean(
                        about="Whether tokens and seconds are sent too, as metrics to /v1/metrics of the collector.",
                        default="false",
                        example="true",
                    ),
                },
                required=("otlp",),
                only={"headers": ("otlp",), "content": ("otlp",), "metrics": ("otlp",)},
                others=OTHERS,
            ),
            about="A file of JSON lines, or {otlp, headers, content, metrics}: OpenTelemetry spans.",
            default="none",
            example="traces.jsonl",
        ),
    },
    about="Where the traces of runs go.",
    default="nowhere",
    example="{traces: traces.jsonl}",
)
