"""Which programs an `ensemble` stage is given: their words since the program as written, the best so far first."""

from __future__ import annotations

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.finalists import words_of
from lmprog.optimizers.journal.lineage import Entry, StageTree

ROWS = 40


def words(**instructions: str) -> Candidate:
    return Candidate(instructions=instructions)


def tree(stage: str, *entries: tuple[Candidate, float, int]) -> StageTree:
    made = [
        Entry(change.digest, change, score={"mean": score, "ci95": [0, 1]}, rows=rows)
        for change, score, rows in entries
    ]
    refused = Entry("refused", words(sort="Bad."), refused="LMP501")
    return StageTree(stage, {entry.digest: entry for entry in (*made, refused)}, ended=True)


ONE, TWO = words(sort="One."), words(sort="Two.")


def test_those_scored_on_all_rows_come_by_their_scores_after_the_best_so_far() -> None:
    first = tree(
        "1-prompt_search", (START, 0.3, ROWS), (ONE, 0.5, ROWS), (TWO, 0.6, ROWS), (words(sort="Few."), 0.9, 8)
    )
    assert words_of([first], [TWO], ROWS) == [TWO, ONE]
    assert words_of([first], [START], ROWS) == [START, TWO, ONE]
    assert words_of([], [], ROWS) == [START]


def test_words_of_a_later_stage_stand_on_what_it_started_from() -> None:
    first = tree("1-prompt_search", (START, 0.3, ROWS), (ONE, 0.5, ROWS))
    second = tree("2-bootstrap", (START, 0.5, ROWS), (words(answer="Briefly."), 0.7, ROWS), (TWO, 0.6, ROWS))
    both = ONE.then(words(answer="Briefly."))
    assert words_of([first, second], [ONE, both], ROWS) == [both, TWO, ONE]


def test_adapters_are_no_words() -> None:
    trained = ONE.then(Candidate(adapters={"lm": {"path": "a"}}))
    first = tree("1-prompt_search", (START, 0.3, ROWS), (ONE, 0.5, ROWS), (TWO, 0.4, ROWS))
    assert words_of([first, StageTree("2-grpo", {}, ended=True)], [ONE, trained], ROWS) == [ONE, TWO]


def test_an_ensemble_stands_in_place_of_the_words_below_it_and_keeps_the_adapters() -> None:
    rule = {"vote": "label", "members": [{"sort": {"instructions": "One."}}, {}]}
    below = ONE.then(Candidate(adapters={"lm": {"path": "a"}}, module_adapters={"sort": {"path": "b"}}))
    whole = below.then(Candidate(ensemble=rule))
    assert whole.as_overlay() == {
        "ensemble": rule,
        "lms": {"lm": {"adapter": {"path": "a"}}},
        "modules": {"sort": {"adapter": {"path": "b"}}},
    }
    assert Candidate.from_json(whole.as_json()) == whole and whole.words.ensemble == rule


def test_a_change_without_an_ensemble_has_the_digest_that_it_had() -> None:
    assert "ensemble" not in ONE.as_json() and Candidate(ensemble={}).digest == START.digest
