"""The content of the page of a trace: its runs with what people said of them, alone or beside the runs of another trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lmprog.compiler.types.lattice import Enum, without_none
from lmprog.compiler.types.plain_types import type_of_plain
from lmprog.errors import UsageError
from lmprog.optimizers.redaction import short
from lmprog.reports.page.document import LISTED, document
from lmprog.state.digests import digest
from lmprog.state.json_lines import read_objects
from lmprog.traces.feedback import read_feedback, read_runs

COMPARED = {"worse": "worse", "better": "better", "differs": "back", "alone": "back", "equal": "equal"}
"""Words for two runs beside each other, in the order in which they stand, each with the colour of its badge."""
WAYS = {
    "failed": "worse",
    "wrong": "worse",
    "corrected": "back",
    "right": "better",
    "commented": "back",
    "no feedback": "equal",
    "client calls": "equal",
}
"""Words for the state of one run, each with the colour of its badge."""
KEYS = "123456789"
"""The keys of the keyboard that choose the first values of an enum."""
PRIVATE = "(private)"
"""The text in place of a private value."""


@dataclass(frozen=True)
class Side:
    """A run as the page shows it: outputs as texts by name, scores by metric (None: an outage), and `words` (feedback
    of the metrics, the run's error, calls of a client); private values are left out unless the page shows them."""

    outputs: Mapping[str, str]
    scores: Mapping[str, float | None]
    words: Sequence[str]
    """The feedback of the metrics, the run's error, and the calls of the client that it ended with."""


@dataclass(frozen=True)
class Entry:
    """A line of the page for one run: the number of its row as text (with `.ROLLOUT` behind it for a repeat), its inputs
    and the further columns of its row as texts, and what people said of it (`feedback`).

    `sides` are the run and, in a comparison, that of the other trace on the same inputs (None: there is none); `way` is a
    word for the state of the run, or for how the two differ, such as `better`.
    """

    run: str | None
    """The id of the run; None where no feedback can be stored on it."""
    number: str
    way: str
    inputs: Mapping[str, str]
    columns: Mapping[str, str]
    sides: Sequence[Side | None]
    feedback: str

    @property
    def colour(self) -> str:
        """The class of the badge's colour in the page's style."""
        return (WAYS | COMPARED)[self.way]


@dataclass
class TraceReport:
    """The content of the page of one or two files, each a trace or the lines of `eval --out`, as they are when this is
    made. With `show_private` private values are shown too. Raises UsageError for a file that is neither, has no run, or
    is absent.

    The trace of `eval --against` has the runs of two programs, which are compared as two files are; with more than two
    programs they are not. `runs` are the runs of each side as dictionaries, `names` their names.
    """

    files: Sequence[Path]
    show_private: bool = False
    live: bool = True
    """True if the page is served, so that it can store feedback."""
    _feedback: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.runs = [list(_runs_in(file)) for file in self.files]
        self.names = [file.name for file in self.files]
        if len(self.files) == 1 and len(versions := _versions(self.runs[0])) == 2:
            self.runs, self.names = list(versions.values()), [f"{self.name} {digest}" for digest in versions]
        if any("id" in run for run in self.runs[0]):
            self._feedback = read_feedback(self.files[0])

    @property
    def name(self) -> str:
        """The name of the program of the first run; the name of the file where its lines have none (`eval --out`)."""
        return str(self.runs[0][0].get("program", self.files[0].name))

    @property
    def guarded(self) -> bool:
        """True if some run has private values, and they are left out."""
        return not self.show_private and any(run.get("private") for runs in self.runs for run in runs)

    @property
    def labels(self) -> tuple[str, Sequence[str]] | None:
        """The name and values of the first output of an enum type, by the last run of the first file; None where there is
        none.
        """
        for name, plain in self.runs[0][-1].get("types", {}).items():
            kind = without_none(type_of_plain(plain))
            if isinstance(kind, Enum):
                return name, kind.values
        return None

    @property
    def can_store(self) -> bool:
        """True if the page can store feedback: it is served, and some run of the first file, a trace, has an id."""
        return self.live and any("id" in run for run in self.runs[0])

    @property
    def keys(self) -> Iterator[tuple[str, str]]:
        """The keys of the keyboard (1 to 9) that choose one of the `labels`, each with the value, in the order of the
        labels; further values have an empty key."""
        _, values = self.labels or ("", ())
        for place, value in enumerate(values):
            yield KEYS[place : place + 1], value

    @cached_property
    def entries(self) -> list[Entry]:
        """The first LISTED (1,000) runs of the first file; in a comparison sorted by `way`: worse, better, differs,
        alone, equal."""
        found = list(self._paired() if len(self.runs) > 1 else ((run, None) for run in self.runs[0]))
        entries = [self._entry(mine, theirs) for mine, theirs in found]
        if len(self.runs) > 1:
            entries.sort(key=lambda entry: [*COMPARED].index(entry.way))
        return entries[:LISTED]

    @property
    def more(self) -> int:
        """The number of runs of the first file that are not listed."""
        return max(0, len(self.runs[0]) - LISTED)

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of listed runs by the word for their state (`Entry.way`), 0 for words that none has."""
        found = Counter(entry.way for entry in self.entries)
        return {way: found[way] for way in (WAYS if len(self.runs) == 1 else COMPARED)}

    def _paired(self) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Yield the runs of the first file, each with the run of the second on equal inputs (the first on these with the first,
        and so on), or where some run has no inputs, of the same row and repeat; None where there is none.
        """
        by_inputs = all(run["inputs"] for runs in self.runs for run in runs)
        others = {key: run for key, run in _keyed(self.runs[1], by_inputs)}
        for key, run in _keyed(self.runs[0], by_inputs):
            yield run, others.get(key)

    def _entry(self, mine: dict[str, Any], theirs: dict[str, Any] | None) -> Entry:
        """Return the line of the page for a run of the first file, and the run of the second beside it (None: none)."""
        given = self._feedback.get(mine.get("id", ""), {})
        hidden = frozenset() if self.show_private else frozenset(mine.get("private", ()))
        compared = len(self.runs) > 1
        return Entry(
            run=mine.get("id"),
            number=str(mine["example"]) + (f".{mine['rollout']}" if mine.get("rollout") else ""),
            way=_difference(mine, theirs) if compared else way(mine, given),
            inputs=_texts(mine["inputs"], hidden),
            columns={} if hidden else _texts(mine.get("columns") or {}, hidden),
            sides=[self._side(mine), *([self._side(theirs) if theirs is not None else None] if compared else [])],
            feedback=said_of(given, private=bool(hidden)),
        )

    def _side(self, run: dict[str, Any]) -> Side:
        """Return a run as the page shows it, without private values unless they are shown."""
        hidden = frozenset() if self.show_private else frozenset(run.get("private", ()))
        words = [] if hidden else [*(run.get("said") or {}).values()]
        if run.get("error") is not None and run["error"] not in words:
            words.append("the run failed" if hidden else run["error"])
        if run.get("client_calls") and not hidden:
            called = (f"{call['name']}({call['written']})" for call in run["client_calls"])
            words.append(f"it ended with calls of the client: {', '.join(called)}")
        outputs = _texts(run.get("outputs") or {}, hidden)
        return Side(outputs, run.get("scores") or {}, [short(word) for word in words])


def trace_page(files: Sequence[Path], *, show_private: bool = False, live: bool = True) -> str:
    """Return the HTML page of one or two `files` (a trace or a file of `eval --out`; two are compared); with `live` it
    is served, and can store feedback, with `show_private` it shows private values too.

    Raises UsageError for a file that is neither.
    """
    report = TraceReport(files, show_private, live)
    return document("trace.html", "trace.js", report=report)


def way(run: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the state of a run of a trace (a dictionary) in a word, the first that holds: `corrected`, `right` (a
    score of at least 0.5), `wrong` or `commented` by the feedback `given` on it (empty: none), else `client calls`
    where it ended with such, `failed` where it has no outputs, or `no feedback`."""
    score = given.get("score")
    if given.get("correction") is not None:
        return "corrected"
    if score is not None:
        return "right" if score >= 0.5 else "wrong"
    if given:
        return "commented"
    if run.get("error") is None and run.get("client_calls"):
        return "client calls"
    return "failed" if run.get("outputs") is None else "no feedback"


def said_of(given: Mapping[str, Any], private: bool = False) -> str:
    """Return the feedback `given` (score, correction, comment; empty: none) as one text; with `private` `(private)` stands in
    place of comment and correction, which may quote private values.
    """
    said = [f"score {given['score']:g}"] if given.get("score") is not None else []
    if private:
        said += [PRIVATE] if given.keys() - {"score"} else []
    else:
        said += [f"{name}: {short(value)}" for name, value in (given.get("correction") or {}).items()]
        said += [short(given["comment"])] if given.get("comment") else []
    return "; ".join(said)


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> str:
    """Return how a run ended beside that of the other file (None: there is none), in a word of COMPARED: by the first metric
    that scored both, where the scores differ, else by the outputs.
    """
    if theirs is None:
        return "alone"
    both = [name for name in mine.get("scores") or {} if name in (theirs.get("scores") or {})]
    left, right = (run["scores"][both[0]] if both else None for run in (mine, theirs))
    if left is not None and right is not None and left != right:
        return "better" if left > right else "worse"
    return "equal" if mine.get("outputs") == theirs.get("outputs") else "differs"


def _keyed(runs: Sequence[dict[str, Any]], by_inputs: bool) -> Iterator[tuple[Hashable, dict[str, Any]]]:
    """Yield runs with a key for the comparison with another file: the digest of their inputs and how often these came before
    (`by_inputs`), else row and repeat.
    """
    seen: Counter[str] = Counter()
    for run in runs:
        if not by_inputs:
            yield (run["example"], run.get("rollout", 0)), run
            continue
        named = digest(run["inputs"])
        yield (named, seen[named]), run
        seen[named] += 1


def _versions(runs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return scored runs by the digest of their program, in the order of the trace; empty where some run has no score or
    digest.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if not run.get("scores") or "digest" not in run:
            return {}
        found.setdefault(run["digest"], []).append(run)
    return found


def _runs_in(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of a trace, or those of a file of `eval --out`, as dictionaries of one form; those of the latter have no
    id and no inputs. Raises UsageError for another file.
    """
    first = next(iter(read_objects(file)), {}) if file.is_file() else {}
    if not {"row", "repeat", "score"} <= first.keys():
        yield from read_runs(file)
        return
    for line in read_objects(file):
        if not isinstance(line.get("row"), int):
            raise UsageError(f"{file} has a line that `lmprog eval --out` does not write")
        others = {id: each.get("score") for id, each in (line.get("metrics") or {}).items()}
        yield {
            "example": line["row"],
            "rollout": line.get("repeat", 0),
            "inputs": {},
            "outputs": line.get("outputs"),
            "error": line.get("error"),
            "scores": {"score": line.get("score"), **others},
            "said": {"feedback": line["feedback"]} if line.get("feedback") else {},
        }


def _texts(values: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, str]:
    """Return values as short texts by name, with `(private)` in place of those whose names are `hidden`."""
    return {name: PRIVATE if name in hidden else short(value) for name, value in values.items()}
