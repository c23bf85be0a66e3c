"""The lineage of candidates: recorded in the journal as they are scored, and read back as a tree for each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.errors import UsageError
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.journal.events import FILE, read_journal
from lmprog.optimizers.journal.files import Journal
from lmprog.scoring.statistics import Estimate
from lmprog.state.json_lines import PassedOver


@dataclass(frozen=True)
class Entry:
    """A candidate in a stage's tree, with its score (`mean` and `ci95`) on `rows` dev rows (None: it was refused, and
    never run) and its parents' digests.

    `refused` is the reason why a check or filter refused it (None: none did); `wins` is True for the stage's result.
    """

    digest: str
    words: Candidate
    """Changes of the candidate to the start; for the start itself, its tuned words."""
    parents: Sequence[str] = ()
    """Digests of what it was derived from: one, two of a merge, none of the start."""
    score: Mapping[str, Any] | None = None
    rows: int = 0
    refused: str | None = None
    wins: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the entry as a dictionary by field name: `digest`, `words` (as `Candidate.as_json`), `parents`,
        `score`, `rows`, `refused` and `wins`."""
        return {**asdict(self), "words": self.words.as_json(), "parents": list(self.parents)}


@dataclass(frozen=True)
class StageTree:
    """The candidates of one stage (named as `2-grpo`) by digest (`entries`), in the order in which they were scored or
    refused.

    `ended` is True where the stage is finished, `changed` where its result is another program than its start; `steps`
    has, by the number of a training step (0: before the first), the score on the choosing dev rows.
    """

    stage: str
    entries: Mapping[str, Entry]
    ended: bool
    changed: bool = False
    """True if the stage has changed the program."""
    steps: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The scores on dev of weights in training, by step."""

    @property
    def start(self) -> Entry | None:
        """The program that the stage began with; None where the stage scores no words (`grpo`), or was stopped before any
        score.
        """
        return self.entries.get(START.digest)

    def words(self, entry: Entry) -> Candidate:
        """Return all tuned texts of an entry: its own, and those of the stage's start that it leaves unchanged.

        Where the stage has no scored start, and for an ensemble, whose members have texts of their own, return those of
        the entry alone.
        """
        return self.start.words.then(entry.words) if self.start is not None else entry.words

    def parent(self, entry: Entry) -> Entry | None:
        """Return the candidate that an entry was derived from; None for the start, and where neither it nor the start
        was scored.

        Of several the first counts, and where that was never scored, the start.
        """
        return self.entries.get(entry.parents[0], self.start) if entry.parents else None

    def children(self, entry: Entry) -> list[Entry]:
        """Return the entries that were derived from this one."""
        return [other for other in self.entries.values() if self.parent(other) is entry]


def remember(journal: Journal, plan: Plan, candidate: Candidate, parents: Sequence[Candidate], score: Estimate) -> None:
    """Record a candidate's words, score and parents in the journal of its stage; a later score replaces an earlier one, and
    one that is recorded already is not recorded again.

    `plan` is that of the stage's start, whose tuned texts are recorded for START.
    """
    start = candidate == START
    kept = {
        "words": (_tuned_words(plan) if start else candidate).as_json(),
        "parents": [] if start else [parent.digest for parent in parents],
        "score": score.as_json(),
        "rows": score.n,
    }
    key = f"candidate/{candidate.digest}"
    if journal.recall(key) != kept:
        journal.keep(key, kept)


def read_trees(run_dir: Path, passed_over: PassedOver | None = None) -> list[StageTree]:
    """Return the tree of candidates of each stage that a run has begun, in the order of the stages; the run may be in
    progress.

    Lines of the journal that cannot be read are added to `passed_over` (None: they are dropped). Raises UsageError
    where there is no run, or its journal is of another version.
    """
    path = run_dir / FILE
    if not path.is_file():
        raise UsageError(f"there is no run in {run_dir}: it has no journal.jsonl; name a folder that `optimize` wrote")
    entries: dict[str, dict[str, Entry]] = {}
    steps: dict[str, dict[int, Any]] = {}
    ended: dict[str, Candidate] = {}
    for event in read_journal(path, passed_over):
        if event["event"] == "stage_started":
            entries.setdefault(f"{event['number']}-{event['name']}", {})
        elif event["event"] == "dev":
            steps.setdefault(event["stage"], {})[event["step"]] = event["score"]
        elif event["event"] == "refused":
            words = Candidate.from_json(event["candidate"])
            refused = Entry(words.digest, words, (START.digest,), refused=event["findings"])
            entries.setdefault(event["stage"], {}).setdefault(words.digest, refused)
        elif event["event"] == "finished":
            key, value = event["key"], event["value"]
            stage, _, part = key.partition("/")
            if stage == "stage":
                ended[part] = Candidate.from_json(value["candidate"])
            elif digest := f"/{part}".partition("/candidate/")[2]:
                entry = Entry(digest, **{**value, "words": Candidate.from_json(value["words"])})
                known = entries.setdefault(stage, {}).get(digest)
                # Where it was scored again under other weights, it is still derived from what it was.
                parents = known.parents if known is not None else entry.parents
                entries[stage][digest] = replace(entry, parents=parents)
    return [replace(tree, steps=steps.get(tree.stage, {})) for tree in _with_winners(entries, ended)]


def _with_winners(entries: Mapping[str, dict[str, Entry]], ended: Mapping[str, Candidate]) -> list[StageTree]:
    """Return the stage trees, with the result of each finished stage marked among its candidates (`wins`, set in `entries`
    too); none is marked where the result is no candidate that was scored.

    `entries` has the candidates of each begun stage, `ended` the results of finished ones, which the journal holds as whole
    changes since the first program.
    """
    trees = []
    before = Candidate()
    for stage, found in entries.items():
        changed = stage in ended and ended[stage] != before
        if stage in ended:
            for digest, entry in found.items():
                change = START if digest == START.digest else entry.words
                if before.then(change).words == ended[stage].words:
                    found[digest] = replace(entry, wins=True)
                    break
            before = ended[stage]
        trees.append(StageTree(stage, found, stage in ended, changed))
    return trees


def _tuned_words(plan: Plan) -> Candidate:
    assert plan.optimize is not None
    tuned = {id: plan.modules[id] for id in plan.optimize.tune}
    return Candidate(
        {id: module.instructions or "" for id, module in tuned.items()},
        {id: [dict(demo) for demo in module.demos] for id, module in tuned.items()},
        nearest={id: module.nearest for id, module in tuned.items() if module.nearest is not None},
    )
