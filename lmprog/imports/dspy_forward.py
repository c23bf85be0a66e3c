"""The method `forward` of a DSPy module as steps: its statements are followed in their order.

A statement that has no step gets a note with its line, and its value becomes an input of the program where a step reads
it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmprog.compiler.types.lattice import STR, ListOf, Type, type_of
from lmprog.compiler.types.lattice import Unknown as NoType
from lmprog.errors import UsageError
from lmprog.imports.dspy_code import Constant, DspyFile, Instance, Predictor, Retriever, defaults, parameters
from lmprog.imports.dspy_expressions import Either, Expr, Prediction, Record, Unknown, is_unknown
from lmprog.imports.dspy_inputs import ProgramInput, as_read, field_name
from lmprog.imports.dspy_objects import MOST_TURNS, Objects, is_path, is_simple, is_straight, method_of
from lmprog.imports.files import python_reference
from lmprog.imports.program import MARK, Note, identifier, wrapped

_MOST_STATEMENTS = 2_000
_CALLS = ("acall", "forward", "aforward", "__call__")


class Forward(Objects):
    """A reader of `forward` methods that gathers the parts of a program: `modules` (predictors by id), `tools`, `steps`
    and `inputs` as the spec has them, and `stand_ins`, the names of the inputs that stand for values without a step.
    The program's file will be in `folder`, from which tools name their files.
    """

    def __init__(self, file: DspyFile, folder: Path) -> None:
        super().__init__(file)
        self.folder = folder
        self.modules: dict[str, Predictor] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, ProgramInput] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.stand_ins: set[str] = set()
        self.kinds: dict[tuple[str, str], Type] = {}
        """The types of inputs that no signature declares, by module and input: those of the values that they are given."""
        self._guards: list[str] = []
        self._count = 0
        self._end: ast.AST | None = None

    def program(self, node: ast.ClassDef, given: ast.Call | None) -> dict[str, str]:
        """Add the inputs and steps of the module class at `node`; return the program's outputs, expressions in `${{ }}`
        by name, empty, with a note, where the class has no `forward` or it returns nothing that has an expression.
        Raises UsageError where its loops stand for more than 2,000 statements.

        `given` is the call that makes an object of the class (None: it has no arguments).
        """
        made = self.instance(node, "", given)
        method = method_of(node, "forward", "aforward")
        if method is None:
            self.file.say("steps", node, "it has no method forward")
            return {}
        absent = defaults(method)
        env: dict[str, Any] = {"self": made}
        for parameter in parameters(method):
            kind = self.file.signatures.type(parameter.annotation) if parameter.annotation is not None else None
            default = absent.get(parameter.arg)
            self.inputs[parameter.arg] = ProgramInput(kind, default)
            if kind is None and default is not None:
                self.inputs[parameter.arg].type = type_of(default)
            env[parameter.arg] = Expr(f"inputs.{parameter.arg}", self.inputs[parameter.arg].type)
        env |= {one.arg: "rest" for one in [method.args.kwarg] if one is not None}
        outputs = self._outputs(self._returned(method, env), self._end or method)
        for predictor, place in self.predictors.values():
            if predictor not in self.modules.values():
                self.file.say("modules", place, "`forward` does not call it")
        return outputs

    def _outputs(self, value: Any, method: ast.AST) -> dict[str, str]:
        """Return the program's outputs for the value that `forward` returns; a note at `method` tells of each that is
        missing, and of a value without a name, which is called `result`.
        """
        if isinstance(value, Prediction | Either):
            value = Record({name: value.field(name) for name in value.outputs})
        if isinstance(value, Expr | Constant):
            self.file.say("outputs", method, "it returns a value without a name: the output is called `result`")
            value = Record({"result": value})
        outputs = {}
        for name, part in (value.fields if isinstance(value, Record) else {}).items():
            found = self.expr(part)
            if found is None:
                self.file.say("outputs", method, f"the output `{name}`, whose value has no expression")
            else:
                outputs[identifier(name)] = wrapped(found.text)
        if not isinstance(value, Record):
            self.file.say("outputs", method, "what it returns")
        return outputs

    def _returned(self, method: ast.FunctionDef | ast.AsyncFunctionDef, env: dict[str, Any]) -> Any:
        """Follow the body of a method, and return the value that it returns, Unknown where it returns none."""
        found = self._block(method.body, env)
        return found[0] if found else Unknown("result")

    def _block(self, body: Sequence[ast.stmt], env: dict[str, Any]) -> list[Any]:
        """Follow statements; return what they return, in a list, which is empty where they return nothing."""
        for place, node in enumerate(body):
            if isinstance(node, ast.Return):
                for rest in body[place + 1 :]:
                    self.file.say("steps", rest, "it stands behind the return")
                found = self.value(node.value, env) if node.value is not None else Unknown("result")
                self._end = node  # not before: a module that is called there has a return of its own
                return [found]
            returned = self._statement(node, env)
            if returned:
                return returned
        return []

    def _statement(self, node: ast.stmt, env: dict[str, Any]) -> list[Any]:
        """Follow a statement; return what it returns, in a list, which is empty where it returns nothing. Raises UsageError
        for one statement too many.
        """
        self._count += 1
        if self._count > _MOST_STATEMENTS:
            raise UsageError(f"{self.file.path}: its loops stand for more than {_MOST_STATEMENTS:,} statements")
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return []
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            self._assign(node, env)
        elif isinstance(node, ast.With | ast.AsyncWith):
            self.file.say("steps", node.items[0].context_expr, "what it sets for the statements in it")
            return self._block(node.body, env)
        elif isinstance(node, ast.For) and (turns := self.turns(node.iter, env)) is not None and is_straight(node):
            for value in turns:
                self._bind(node.target, value, env)
                self._block(node.body, env)
        elif isinstance(node, ast.If):
            return self._condition(node, env)
        elif not isinstance(node, ast.Expr) or is_unknown(self.value(node.value, env)):
            self._leave(node, env)
        return []

    def _condition(self, node: ast.If, env: dict[str, Any]) -> list[Any]:
        """Follow a condition: the one side that a plain value chooses, or both where it is simple; else note that it has
        no step. Return what it returns, in a list, which is empty where it returns nothing.
        """
        test = self.value(node.test, env)
        if isinstance(test, Constant):
            return self._block(node.body if test.value else node.orelse, env)
        found = self.expr(test) if is_simple(node) else None
        if found is None:
            self._leave(node, env)
        else:
            self._branch(node, found, env)
        return []

    def _branch(self, node: ast.If, test: Expr, env: dict[str, Any]) -> None:
        """Follow both sides of a condition: their steps get it as `when`, and what they set is a choice of two values."""
        sides = []
        for guard, body in ((test.text, node.body), (f"not {test.text}", node.orelse)):
            inner = dict(env)
            self._guards.append(guard)
            before = set(self.steps)
            self._block(body, inner)
            self._guards.pop()
            sides.append((inner, self.steps.keys() - before))
        (then, made), (other, _) = sides
        for name in then.keys() | other.keys():
            one, two = then.get(name, Unknown(name)), other.get(name, Unknown(name))
            if one is not two:
                env[name] = self._choice(name, test, (one, two), made)

    def _choice(self, name: str, test: Expr, values: tuple[Any, Any], made: Set[str]) -> Any:
        """Return the value of a name after a condition `test` with one of two `values` (where it holds, and where not);
        `made` are the ids of the steps of the side where it holds. Unknown where one of them has no expression.
        """
        then, other = values
        if isinstance(then, Prediction | Either) and isinstance(other, Prediction | Either):
            return Either(then, other)
        one, two = self.expr(then), self.expr(other)
        if one is None or two is None:
            return Unknown(name)
        if any(f"steps.{step}." in one.text for step in made):
            return Expr(f"default({one.text}, {two.text})", two.type)
        return Expr(f"({one.text} if {test.text} else {two.text})", one.type if one.type == two.type else None)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, env: dict[str, Any]) -> None:
        """Follow an assignment: `env` gets the value of each name; an unknown value gets a note."""
        assert node.value is not None
        value = node.value
        if isinstance(node, ast.AugAssign):
            value = ast.copy_location(ast.BinOp(as_read(node.target), node.op, node.value), node)
        found = self.value(value, env)
        if is_unknown(found):
            self.file.say(
                "steps", node, "it has no step, so its value is an input of the program where a step reads it"
            )
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            self._bind(target, found, env)

    def _bind(self, target: ast.AST, value: Any, env: dict[str, Any]) -> None:
        """Set the names at `target` to a value in `env`, of a tuple one by one; a target that is no name gets a note."""
        if isinstance(target, ast.Name):
            env[target.id] = Unknown(target.id) if isinstance(value, Unknown) else value
        elif isinstance(target, ast.Tuple | ast.List):
            fits = isinstance(value, list) and len(value) == len(target.elts)
            parts = value if fits else [Unknown("value")] * len(target.elts)
            for part, item in zip(target.elts, parts, strict=True):
                self._bind(part, item, env)
        else:
            self.file.say("steps", target, "a value that is set on an object")

    def _leave(self, node: ast.stmt, env: dict[str, Any]) -> None:
        """Note a statement that has no steps; the names that it sets have unknown values from here on."""
        parts = [part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
        sets = "; what it sets is an input of the program where a step reads it" if parts else ""
        self.file.say("steps", node, f"it has no step{sets}")
        env |= {part.id: Unknown(part.id) for part in parts}

    def called(self, node: ast.Call, env: Mapping[str, Any], each: Expr | None = None) -> Any:
        """Return the value of a call of a predictor, retriever, module of the file (outside of list comprehensions), or
        function that becomes a tool, and add the steps, tools and inputs that it needs to the program; None for any
        other call.

        `env` has the values of names, `each` is the list of the list comprehension around the call (None: there is
        none), over which the step of a predictor or tool is repeated.
        """
        function: ast.AST = node.func
        if isinstance(function, ast.Attribute) and function.attr in _CALLS:
            function = function.value
        if (
            isinstance(function, ast.Name)
            and function.id not in env
            and function.id in {**self.file.functions, **self.file.files}
        ):
            return self._tool(function.id, node, env, each)
        made_here = isinstance(function, ast.Call)
        if not made_here and not is_path(function):
            return None
        value = self._made_here(function) if made_here else self.value(function, env)
        if isinstance(value, Predictor):
            return self._ask(value, node, env, each)
        if isinstance(value, Retriever):
            name = self.stand_in(f"{value.name}_passages", ListOf(STR), another=True)
            self.file.say("steps", node, f"its passages are the input `{name}` until you write a tool that searches")
            return Record({"passages": Expr(f"inputs.{name}", ListOf(STR))})
        if isinstance(value, Instance) and each is None and len(self.open) < MOST_TURNS:
            return self._inside(value, node, env)
        return None

    def _made_here(self, node: ast.AST) -> Predictor | None:
        """Return the predictor that an expression makes in the place where it is called, named after its first output;
        None where it makes none.
        """
        found = self.file.predictor(node, "")
        return replace(found, path=next(iter(found.signature.outputs))) if found is not None else None

    def _inside(self, made: Instance, node: ast.Call, env: Mapping[str, Any]) -> Any:
        """Follow the `forward` of an object that the call `node` of another module calls, and return its value; Unknown
        where its class has none, or is being followed already.
        """
        method = method_of(made.node, "forward", "aforward")
        if method is None or made.node.name in self.open:
            return Unknown(identifier(made.path))
        names = [parameter.arg for parameter in parameters(method)]
        inner: dict[str, Any] = {"self": made, **{name: Constant(value) for name, value in defaults(method).items()}}
        inner |= dict(zip(names, (self.value(one, env) for one in node.args), strict=False))
        inner |= {keyword.arg: self.value(keyword.value, env) for keyword in node.keywords if keyword.arg}
        self.open.append(made.node.name)
        found = self._returned(method, inner)
        self.open.pop()
        return found

    def _ask(self, predictor: Predictor, node: ast.Call, env: Mapping[str, Any], each: Expr | None) -> Prediction:
        """Add the step (and the module, where it is new) for a call of a predictor, and return its outputs; `each` is the
        list over which the step is repeated (None: it is not). An input without an argument becomes one of the program,
        with a note unless `forward` passes on its `**` arguments; other arguments that do not fit get notes.
        """
        id, number = identifier(predictor.path), 2
        while self.modules.get(id, predictor) != predictor:
            id, number = f"{identifier(predictor.path)}_{number}", number + 1
        self.modules[id] = predictor
        given = dict(self._given(node, env))
        arguments = {}
        for name, declared in predictor.signature.inputs.items():
            value = given.pop(name, None)
            if value is None and "rest" in env.values():
                self.inputs.setdefault(name, ProgramInput(declared.type))
                value = Expr(f"inputs.{name}", declared.type)
            elif value is None:
                self.file.say("steps", node, f"it gives no `{name}`")
                value = Unknown(name)
            kind = declared.type if declared.declared else self._kind_given(id, name, value)
            arguments[field_name(name, "input")] = self.argument(value, name, kind)
        for name in given:
            self.file.say("steps", node, f"`{name}`, which is no input of the signature")
        if node.args:
            self.file.say("steps", node, "arguments without a name")
        step = {"module": id, **({"foreach": wrapped(each.text)} if each is not None else {})}
        return Prediction(self.add(id, {**step, "with": arguments}), predictor.asked.outputs, each is not None)

    def _kind_given(self, id: str, name: str, value: Any) -> Type:
        """Return the type of the input `name` of the module `id`, which its signature does not declare: the one that a
        first call gave it, by the type of its value; `str` where that is not known.
        """
        found = self.expr(value)
        kind = found.type if found is not None else None
        if isinstance(value, list) or (isinstance(kind, ListOf) and isinstance(kind.item, NoType)):
            kind = ListOf(STR)
        return self.kinds.setdefault((id, name), kind if kind is not None else STR)

    def _given(self, node: ast.Call, env: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the named arguments of a call with their values; arguments by `**` get a note, but for those of `forward`."""
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield keyword.arg, self.value(keyword.value, env)
            elif not (isinstance(keyword.value, ast.Name) and env.get(keyword.value.id) == "rest"):
                self.file.say("steps", node, "arguments by `**`")

    def _tool(self, name: str, node: ast.Call, env: Mapping[str, Any], each: Expr | None) -> Any:
        """Add the tool and the step for a call of the function `name`, and return the expression of its result, a list
        where the step is repeated over `each` (None: it is not). Unknown where the names of its arguments are not
        known."""
        definition = self.file.functions.get(name)
        if definition is None and node.args:
            self.file.say("steps", node, f"the names of the arguments of `{name}`, which another file defines")
            return Unknown(name)
        names = [parameter.arg for parameter in parameters(definition)] if definition is not None else []
        given = dict(zip(names, (self.value(one, env) for one in node.args), strict=False)) | dict(
            self._given(node, env)
        )
        self.tool(name)
        arguments = {one: self.argument(value, one, None) for one, value in given.items()}
        repeated = {"foreach": wrapped(each.text)} if each is not None else {}
        called = {"tool": identifier(name), **repeated, **({"with": arguments} if arguments else {})}
        returns = definition.returns if definition is not None else None
        kind = self.file.signatures.type(returns) if returns is not None else None
        if each is not None:
            kind = ListOf(kind) if kind is not None else None
        return Expr(f"steps.{self.add(identifier(name), called)}.result", kind)

    def tool(self, name: str) -> str:
        """Add a function, of this file or imported from one beside it, as a tool of the program; return the tool's id,
        the same for each call. A function of this file counts as handled, and gets a note, since its file imports dspy.
        """
        id, other = identifier(name), self.file.files.get(name)
        file, _, function = (other or f"{self.file.path.name}:{name}").partition(":")
        reference = python_reference(self.file.path.parent / file, self.folder, function)
        self.tools[id] = {"python": reference, "result": "result"}
        if other is None:
            self.file.handled.add(self.file.functions[name])
            text = f"a run of `{name}` runs all of {file}, and needs dspy: move it into a file of its own"
            if Note("tools", text) not in self.file.notes:
                self.file.notes.append(Note("tools", text))
        return id

    def argument(self, value: Any, name: str, kind: Type | None) -> Any:
        """Return the argument `name` of a step, of type `kind` (None: not known), for a value: a plain value, or an
        expression in `${{ }}`. For a value without an expression, and for one that holds `${{`, an input of the program
        is added; an input of no known type that is read gets `kind`.
        """
        if isinstance(value, Constant) and MARK not in str(value.value):
            return value.value
        found = self.expr(value) if MARK not in str(value) else None
        if found is None:
            input = self.stand_in(value.name if isinstance(value, Unknown) else name, kind)
            return wrapped(f"inputs.{input}")
        own, _, part = found.text.removeprefix("inputs.").partition(".")
        if own in self.inputs and found.text.startswith("inputs.") and self.inputs[own].type is None:
            if part in self.inputs[own].fields:
                self.inputs[own].fields[part] = kind or STR
            elif not part and not self.inputs[own].fields:
                self.inputs[own].type = kind
        return wrapped(found.text)

    def read_field(self, base: Expr, name: str) -> None:
        """Take note that the field `name` of the value of an expression is read: an input of no known type is then an
        object with this field.
        """
        own = self.inputs.get(base.text.removeprefix("inputs."))
        if own is not None and own.type is None:
            own.fields.setdefault(name, STR)

    def stand_in(self, name: str, kind: Type | None, *, another: bool = False) -> str:
        """Add an input of the program in place of a value that no step gives, and return its name: `name`, or one made from
        it where an input of the code has it. Values of one name share an input, unless `another` asks for a new one.

        `kind` is its type (None: not known).
        """
        base = name = identifier(name)
        number = 2
        while name in self.inputs and (another or name not in self.stand_ins):
            name, number = f"{base}_{number}", number + 1
        self.stand_ins.add(name)
        self.inputs.setdefault(name, ProgramInput(kind))
        return name

    def add(self, id: str, step: dict[str, Any]) -> str:
        """Add a step, which runs only under the conditions around it in the code; return its id, which is `id`, or made from
        it where that is taken.
        """
        name, number = id, 2
        while name in self.steps:
            name, number = f"{id}_{number}", number + 1
        self.steps[name] = {**step, **({"when": " and ".join(self._guards)} if self._guards else {})}
        return name
