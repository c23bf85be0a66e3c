"""Compilation of a file into a plan: all phases in order, with the findings of each."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Map
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.compiler import checks, ensembles
from lmprog.compiler.artefacts.meaning import digest, files_of, meaning_of
from lmprog.compiler.bounds import known_lists
from lmprog.compiler.declarations import read_export, read_lms, read_vars, var_types
from lmprog.compiler.draft import Draft, Options
from lmprog.compiler.expressions.compiled import parsed
from lmprog.compiler.findings.finding import Finding, Report, nearest, suggestion
from lmprog.compiler.fitting import fit
from lmprog.compiler.language import PROGRAM, VERSION
from lmprog.compiler.lm_routes import with_routes
from lmprog.compiler.modules import read_modules
from lmprog.compiler.optimizing.metrics import read_metrics
from lmprog.compiler.optimizing.optimize_block import read_optimize
from lmprog.compiler.optimizing.tests_block import read_tests
from lmprog.compiler.plan import Plan
from lmprog.compiler.rows.splits import load_rows, read_data, row_type, with_texts
from lmprog.compiler.steps.graph import GraphBuilder
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.tools.declared import read_tools, with_guarded
from lmprog.compiler.tools.lock_file import Server
from lmprog.compiler.types.lattice import UNKNOWN, Object, Type
from lmprog.compiler.types.signatures import pydantic_type
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.types.values import Binder, constant_value, scalars, seeming_reads
from lmprog.compiler.yaml.files import followed, root_of
from lmprog.compiler.yaml.layers import candidate, override, read_extended
from lmprog.compiler.yaml.source import Mapping, Place, Scalar, Source, placed


@dataclass(frozen=True)
class Compilation:
    """The result of `compile_file`: the findings of a program and its sub-programs, and the program's plan (None where a
    finding is an error).
    """

    plan: Plan | None
    findings: tuple[Finding, ...]
    read: tuple[Path, ...] = ()
    """The YAML files that were read: the program, what it extends, and the programs that it names."""
    servers: tuple[Server, ...] = field(default=(), repr=False, compare=False)
    """The MCP servers that the program and its sub-programs name, for `lmprog tools`."""
    draft: Draft | None = field(default=None, repr=False, compare=False)
    """The program as far as it was read, also where it has errors; None where the file cannot be read at all, or is of a
    newer version of the language. Of an ensemble: the program without its members' changes."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors; the plan is None if there are any."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def compile_file(
    path: Path | str,
    *,
    overrides: Map[str, Any] = {},
    lms: Map[str, str] = {},
    change: Map[str, Any] | None = None,
    imports: bool = True,
    data: bool = True,
    stage_configs: Callable[[str], Any] | None = None,
    stage_names: Callable[[], Iterable[str]] = tuple,
    confined: bool = False,
) -> Compilation:
    """Compile the program at `path`; return the plan (None where there are errors) with the findings. Mistakes in the
    program, and a file that cannot be read, are findings, and raise nothing.

    `overrides` are values by dotted path of keys (`--set`), `lms` models by LM id (`--lm`), `change` an overlay as
    plain values, laid on top (None: no overlay). With `imports` False no user code runs; with `data` False no rows are
    read, and the checks that need them are skipped. `stage_configs` returns the pydantic Config of an optimizer by
    name, to check its options (None: options are not checked), and `stage_names` the names of all optimizers.
    `confined`, for a program that is not trusted, reads nothing outside of the git checkout (else the folder) of the
    program. Python's garbage collector is off meanwhile.
    """
    report = Report()
    options = Options(imports, data, stage_configs, root_of(Path(path)) if confined else None, stage_names=stage_names)
    # All nodes live until the end: the collector would look through them again and again and find nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        program = _Program(report, options)
        plan = program.compile(followed(Path(path)), overrides, lms, change)
    finally:
        if collecting:
            gc.enable()
    findings = report.settle(unused_ignores=data and imports and change is None)
    failed = any(finding.severity == "error" for finding in findings)
    read = tuple(source.path for source in report.sources.values())
    return Compilation(None if failed else plan, findings, read, tuple(program.servers), program.draft)


class _Program:
    """The compiler of one file, with compilers of its own for the programs that its steps call.

    `around` are the paths of the programs that call this one, from the outermost; `subs` keeps each called program's plan
    by path (None: it has errors).
    """

    def __init__(self, report: Report, options: Options, around: tuple[Path, ...] = ()) -> None:
        self.report, self.options, self.around = report, options, around
        self.subs: dict[Path, Plan | None] = {}
        self.draft: Draft | None = None
        self.servers: list[Server] = []

    def compile(
        self,
        path: Path,
        overrides: Map[str, Any] = {},
        lms: Map[str, str] = {},
        change: Map[str, Any] | None = None,
        named: Place | None = None,
    ) -> Plan | None:
        """Return the plan of the file at `path`, also where it has mistakes, which become findings of the report; None
        where the file cannot be read, is of a newer version of the language, or is an ensemble with errors.

        `overrides` are values by dotted path (`--set`), `lms` models by LM id (`--lm`), `change` is a candidate's overlay
        (None: there is none), and `named` the place in another program that names the file (None: none does).
        """
        self.path = path
        root = read_extended(path, self.report, within=self.options.root, named=named)
        if root is None:
            return None
        if not self.around:
            self.report.own = frozenset(self.report.sources)
        root = override(root, overrides, self.report)
        if change is not None:
            root = candidate(root, change, self.report)
        if not self._version(root):
            return None
        fitted = fit(PROGRAM, root, self.report, "the program")
        assert isinstance(fitted, Mapping)
        if fitted.map(ensembles.KEY) is not None:
            return self._ensemble(fitted, lms)
        return self._compiled(self._draft(fitted, lms))

    def _compiled(self, draft: Draft) -> Plan:
        self.draft = self.draft or draft
        plan = known_lists(self._plan(draft), [row for rows in draft.rows.values() for row in rows])
        checks.run(draft, plan, self._base_digest)
        return plan

    def _ensemble(self, root: Mapping, lms: Map[str, str]) -> Plan | None:
        """Return the plan of the ensemble whose spec is `root`, each member with the models of `lms`; None where the
        program without the members' changes, or a member, has errors."""
        shared = self._draft(root, lms)
        whole = self._compiled(shared)
        ensembles.check(shared, whole)
        if self.report.failed:
            return None
        found = [self._member(each, lms) for each in ensembles.member_roots(root)]
        if self.report.failed:
            return None
        members = tuple(replace(plan, optimize=whole.optimize) for plan in found)
        with self._unsaid("LMP208"):  # where no member has an answer there is none to pick
            plan = self._compiled(self._draft(ensembles.laid_out(root, members), lms, members))
        return replace(plan, optimize=whole.optimize, members=members)

    def _member(self, root: Mapping, lms: Map[str, str]) -> Plan:
        """Return the plan of the member of an ensemble whose whole spec is `root`, also where it has mistakes."""
        inner = _Program(self.report, replace(self.options, evaluation=False), self.around)
        inner.path, inner.subs = self.path, self.subs
        with self._unsaid("LMP202"):  # of the program that all of them are it is said what nobody reads
            return inner._compiled(inner._draft(root, lms))

    @contextmanager
    def _unsaid(self, code: str) -> Iterator[None]:
        """Remove, at the end of the `with` block, the findings of the code `code` that were made within it."""
        before = set(self.report.findings)
        yield
        for key in self.report.findings.keys() - before:
            if key[0] == code:
                del self.report.findings[key]

    def _version(self, root: Mapping) -> bool:
        """Report a version of the language that is missing, wrong or not first in the file; return False for a newer one,
        of which nothing more is read."""
        node = root.get("lmprog")
        if node is None:
            if any(nearest(key, ["lmprog"]) for key in root.entries):
                return True
            fix = "write `lmprog: 1` as the first line"
            self.report.add("LMP101", root.place, "the key `lmprog` is missing: the version of the language", fix=fix)
            return True
        value = node.plain()
        if isinstance(value, int) and value > VERSION:
            message = f"this program is written in version {value} of the language, and this lmprog reads {VERSION}"
            self.report.add("LMP101", node.place, message, fix="install a newer lmprog")
            return False
        if value != VERSION or isinstance(value, bool):
            self.report.add("LMP101", node.place, f"`lmprog` must be {VERSION}", fix=f"write lmprog: {VERSION}")
        elif next(iter(root.entries)) != "lmprog" and root.get("extends") is None:
            message = "`lmprog` must be the first key of the file"
            self.report.add("LMP101", root.key_place("lmprog"), message, fix="move it to the top")
        return True

    def _draft(self, root: Mapping, lms: Map[str, str], members: tuple[Plan, ...] = ()) -> Draft:
        draft = Draft(self.path, root, self.report, self.options, self._sub, Binder(self.report))
        self._lost(draft)
        draft.vars = draft.binder.vars = read_vars(draft)
        draft.var_types = var_types(draft)
        types = TypeReader(self.report, lambda node: self._constant(draft, node), self._model)
        draft.inputs = types.fields(root.map("inputs"), "input")
        draft.lms = with_routes(draft, read_lms(draft, lms))
        draft.export = read_export(draft)
        self._rebound(draft, lms)
        draft.tools = read_tools(draft, types)
        self.servers += [server for server in draft.named_servers if server not in self.servers]
        draft.modules = read_modules(draft, types)
        draft.tools = with_guarded(draft)
        self._gather(draft, members)
        self._graph(draft, types)
        if self.options.evaluation:
            draft.data = read_data(draft)
            draft.data = with_texts(draft)
            if self.options.data:
                draft.rows = load_rows(draft)
            draft.metrics = read_metrics(draft, row_type(draft))
            draft.optimize = read_optimize(draft)
        return draft

    def _lost(self, draft: Draft) -> None:
        """Mark as used what the parts that were left out with a finding seem to read and name."""
        for lost in self.report.lost:
            for scalar in scalars(lost):
                if isinstance(scalar.value, str):
                    draft.binder.reads |= seeming_reads(scalar.value)
                    draft.used |= {(section, scalar.value) for section in ("lms", "tools", "modules", "metrics")}

    def _constant(self, draft: Draft, node: Scalar) -> Any:
        draft.used |= {("vars", name) for name in draft.vars if name in node.text}
        draft.binder.reads |= seeming_reads(node.text)
        if any(name in node.text for name in draft.unknown_vars):
            return None
        return constant_value(self.report, node, draft.vars, "an enum")

    def _model(self, text: str, node: Scalar) -> Type:
        from lmprog.compiler.types import pydantic_models
        from lmprog.compiler.types.python_reference import ImportFailed, load, reference

        if not self.options.imports:
            return UNKNOWN
        named = reference(text, node.source.folder)
        try:
            found = load(named)
        except ImportFailed as error:
            self.report.add("LMP103", node.place, f"the type `{text}`: {error}")
            return UNKNOWN
        if not hasattr(found, "model_fields"):
            self.report.add("LMP101", node.place, f"`{text}` is no pydantic model")
            return UNKNOWN
        if getattr(found, "__pydantic_root_model__", False):
            message = f"`{text}` is a root model of pydantic, whose values have no fields"
            self.report.add("LMP101", node.place, message, fix="write the type of its root, such as list[str]")
            return UNKNOWN
        try:
            pydantic_models.schema(named)
        except Exception as error:  # each of pydantic's errors for a field, and whatever code of the model raises
            why = str(error).partition("\n")[0]
            message = f"`{text}` has a field that JSON has no type for: {why}"
            self.report.add("LMP101", node.place, message, fix="leave that field out of the model")
            return UNKNOWN
        return replace(pydantic_type(found), source=text, model=named)

    def _rebound(self, draft: Draft, lms: Map[str, str]) -> None:
        for id, model in lms.items():
            if id not in draft.lms:
                source = Source(Path.cwd(), f"--lm {id}", f"{id}={model}", Path.cwd())
                fix = suggestion(id, draft.lms, "LMs")
                self.report.add("LMP103", Place(source, 1, 1), f"the program has no LM `{id}`", fix=fix)

    def _gather(self, draft: Draft, members: tuple[Plan, ...]) -> None:
        """Prepare the draft of an ensemble: mark the LMs and vars of its `members` as used, and add its judge as a module;
        without `members`, only mark the judge's LM."""
        judge = ensembles.judge_of(draft.root)
        if judge is not None:
            draft.used.add(("lms", judge))
        if not members:
            return
        draft.members = {ensembles.name_of(number): plan for number, plan in enumerate(members, 1)}
        draft.used |= {("lms", id) for id in draft.lms} | {("vars", name) for name in draft.vars}
        if draft.root.get("inputs") is None:
            draft.inputs = dict(members[0].inputs)
        if judge is not None:
            here = draft.lms[judge].backend.constrained
            draft.modules = {ensembles.JUDGE: ensembles.judging_module(judge, len(members), here)}

    # the graph

    def _graph(self, draft: Draft, types: TypeReader) -> None:
        inputs = Object(tuple((name, field.type) for name, field in draft.inputs.items()))
        scope = Scope({"inputs": inputs, "vars": draft.var_types}, where="in a step")
        node = draft.root.map("steps")
        if node is None and draft.root.get("steps") is None and not draft.dropped_top("steps"):
            if len(draft.modules) == 1 and not draft.dropped("modules"):
                node = self._only_module(draft)
                inputs = Object(tuple((name, field.type) for name, field in draft.inputs.items()))
                scope = scope.having(inputs=inputs)
            elif draft.modules and not draft.dropped("modules"):
                place = draft.key("modules")
                message = f"a program with {len(draft.modules)} modules needs `steps` that call them"
                self.report.add("LMP101", place, message, fix="add steps:")
            elif not draft.dropped_top("modules") and not draft.dropped("modules") and not draft.root.map("outputs"):
                message = "the program has neither modules nor steps"
                self.report.add("LMP101", draft.root.place, message, fix="add modules:")
        builder = GraphBuilder(draft, types)
        empty = Mapping(draft.source, draft.root.line, draft.root.column, {}, {})
        draft.steps, visible = builder.build(node or empty, scope)
        self._outputs(draft, replace(scope, steps=visible, where="in `outputs`"))

    def _only_module(self, draft: Draft) -> Mapping:
        """Return `steps:` with one step, which calls the only module of a program without steps; a program without
        `inputs` gets those of the module."""
        ((id, module),) = draft.modules.items()
        entry = draft.node("modules", id)
        assert isinstance(entry, Mapping)
        if draft.root.get("inputs") is None and not draft.dropped_top("inputs"):
            draft.inputs = dict(module.inputs)
        given = {name: f"${{{{ inputs.{name} }}}}" for name in module.inputs if name in draft.inputs}
        steps = placed({id: {"module": id, "with": given}}, entry)
        assert isinstance(steps, Mapping)
        return steps

    def _outputs(self, draft: Draft, scope: Scope) -> None:
        node = draft.root.map("outputs")
        if node is None:
            if draft.dropped_top("outputs"):
                return
            if draft.root.map("steps") is None and len(draft.modules) == 1:
                ((id, module),) = draft.modules.items()
                for name, declared in module.outputs.items():
                    draft.outputs[name] = parsed(f"steps.{id}.{name}", declared.type)
                    draft.output_types[name] = declared.type
                    draft.binder.reads.add(("steps", id, name))
            elif draft.root.map("steps") is not None:
                message = "a program with steps needs `outputs`"
                self.report.add("LMP101", draft.root.place, message, fix="add outputs: with an expression for each")
            return
        for name, entry in node.entries.items():
            expression = draft.binder.written(entry, scope, f"output `{name}`")
            draft.output_types[name] = expression.type if expression is not None else UNKNOWN
            if expression is not None:
                draft.outputs[name] = expression
        for name in node.dropped:
            draft.output_types[name] = UNKNOWN

    # sub-programs

    def _sub(self, path: Path, place: Place, what: str) -> Plan | None:
        if path in (*self.around, self.path):
            circle = (*self.around, self.path, path)
            names = tuple(file.name for file in circle[circle.index(path) :])
            self.report.add("LMP103", place, f"{what} runs a program that runs this one", path=names)
            return None
        if path not in self.subs:
            options = replace(self.options, evaluation=False)
            inner = _Program(self.report, options, (*self.around, self.path))
            before = {key for key, finding in self.report.findings.items() if finding.severity == "error"}
            plan = inner.compile(path, named=place)
            self.servers += [server for server in inner.servers if server not in self.servers]
            after = {key for key, finding in self.report.findings.items() if finding.severity == "error"}
            self.subs[path] = plan if before == after else None
        return self.subs[path]

    def _base_digest(self, path: Path) -> str | None:
        """Return the digest of the program that an overlay extends, compiled without the overlay."""
        options = Options(imports=False, data=False, root=self.options.root, evaluation=False)
        plan = _Program(Report(), options).compile(path)
        return plan.digest if plan is not None else None

    # the plan

    def _plan(self, draft: Draft) -> Plan:
        tests = read_tests(draft) if self.options.evaluation else ()
        meaning = meaning_of(draft)
        return Plan(
            draft.root.value("name") or self.path.stem,
            self.path,
            draft.inputs,
            draft.outputs,
            draft.output_types,
            draft.vars,
            draft.lms,
            draft.tools,
            draft.modules,
            draft.steps,
            data=draft.data,
            metrics=draft.metrics,
            optimize=draft.optimize,
            tests=tests,
            export=draft.export,
            tuned=draft.root.value("tuned"),
            description=draft.root.value("description"),
            digest=digest(meaning),
            meaning=meaning,
            files=files_of(draft),
        )
