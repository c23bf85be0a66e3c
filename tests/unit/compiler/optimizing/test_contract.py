"""The facts that optimizers declare, as checks and costs use them."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from itertools import chain, combinations
from types import SimpleNamespace

import pytest

from lmprog.compiler.checks.stages import _lacking
from lmprog.compiler.optimizing import contract
from lmprog.compiler.optimizing.contract import GROUP, built_in, declared
from lmprog.compiler.optimizing.language import TUNABLE
from lmprog.errors import LmprogError
from lmprog.optimizers import optimizer
from lmprog.optimizers.optimizer import BUILT_IN, find, options_of

SETS = [frozenset(parts) for size in range(5) for parts in combinations(TUNABLE, size)]


def test_the_kept_facts_are_those_of_the_classes() -> None:
    left_out = dict.fromkeys(("options", "runs", "lm_calls"))
    for name in BUILT_IN:
        kept, own = built_in()[name], declared(find(name))
        assert {**vars(kept), **left_out} == {**vars(own), **left_out}
        options = find(name).Config().model_dump() if name != "gepa" else {"max_metric_calls": 90, "pareto_rows": 9}
        assert own.runs is not None and kept.most_runs(options, 70, 50) == own.most_runs(options, 70, 50) > 50


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@pytest.mark.parametrize("value", [0, -1, "ten", None, [], 1.5])
def test_runs_are_counted_whatever_the_options_are(name: str, value: object) -> None:
    """A wrong option has its own finding; the count must neither fail nor go on for ever."""
    schema = built_in()[name].options
    assert built_in()[name].most_runs(dict.fromkeys(schema["properties"], value), 40, 30) >= 0


def test_a_count_that_fails_is_that_of_the_start_and_one_change() -> None:
    undeclared = declared(SimpleNamespace(Config=None))
    assert undeclared.tunes is None and undeclared.may_write("demos") and not undeclared.trains
    assert undeclared.most_runs({}, 10, 7) == 14
    failing = declared(SimpleNamespace(Config=None, runs=lambda options, train, dev: options["none"], tunes="weights"))
    assert failing.most_runs({}, 10, 7) == 14
    assert failing.trains and failing.taught == "weights" and not failing.may_write("demos")


@pytest.mark.parametrize("tunes", SETS)
def test_a_stage_lacks_each_kind_of_part_that_tune_does_not_name(tunes: frozenset[str]) -> None:
    words, weights = tunes - {"weights"}, tunes & {"weights"}
    for tuned in SETS:
        found = list(_lacking(tunes, tuned))
        assert len(found) == sum(bool(kind) and not kind & tuned for kind in (words, weights))
        for _, fix in found:
            assert any(part in fix for part in chain(words, weights))


def test_a_part_that_no_module_has() -> None:
    ((wrong, fix),) = _lacking(frozenset({"prompts"}), frozenset({"demos"}))
    assert "`prompts`, which no module has" in wrong and "instructions" in fix


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("json:nothing", "cannot be imported \\(AttributeError"),
        ("lmprog.nothing:it", "cannot be imported \\(No module"),
        ("json:dumps", "has no `Config`"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_an_error_of_its_package(
    monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    point = EntryPoint("odd", place, GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: [point])
    monkeypatch.setattr(optimizer, "_of_other_packages", lambda: {"odd": point})
    assert contract._installed.__wrapped__("odd") is None
    with pytest.raises(LmprogError, match=said):
        options_of("odd")
