"""The objects of a DSPy program as the methods `__init__` of its module classes make them: predictors, other modules, lists
of them, plain values.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmprog.imports.dspy_code import Constant, DspyFile, Instance, Predictor, Retriever, defaults, parameters
from lmprog.imports.dspy_expressions import Expressions, is_unknown
from lmprog.imports.program import identifier

MOST_TURNS = 10
"""The most turns of a loop whose body is repeated as steps, and the most modules within each other."""
_METHODS = ("__init__", "forward", "aforward")


class Objects(Expressions):
    """A reader of module classes of a file: it makes their objects by following `__init__`, without running code."""

    def __init__(self, file: DspyFile) -> None:
        super().__init__(file)
        self.predictors: dict[str, tuple[Predictor, ast.AST]] = {}
        """The predictors that are attributes of objects, by their paths, and where they are made."""
        self.open: list[str] = []
        """The classes whose objects are being made or followed."""

    def instance(self, node: ast.ClassDef, path: str, given: ast.Call | None) -> Instance:
        """Return an object of the module class at `node`, with the attributes that its own `__init__` sets, none where
        the class itself has no such method. The file gets notes on other methods, class attributes, and statements that
        cannot be followed; predictors are added to `predictors`.

        `path` is the object's path as DSPy names it (empty: the program itself), `given` the call that makes it (None:
        without arguments).
        """
        made = Instance(node, path, {})
        self.file.followed.add(node.name)
        method = method_of(node, "__init__")
        for part in node.body:
            left = isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name not in _METHODS
            if left or isinstance(part, ast.Assign | ast.AnnAssign):
                self.file.say("steps", part, "it is not `__init__` or `forward`")
        if method is None:
            return made
        env: dict[str, Any] = {"self": made}
        env |= {name: Constant(value) for name, value in defaults(method).items()}
        if given is not None:
            names = [parameter.arg for parameter in parameters(method)]
            pairs = [
                *zip(names, given.args, strict=False),
                *((one.arg, one.value) for one in given.keywords if one.arg),
            ]
            env |= {str(name): self.value(value, {}) for name, value in pairs}
        for statement in method.body:
            self._set(statement, made, env)
        return made

    def _set(self, node: ast.stmt, made: Instance, env: dict[str, Any]) -> None:
        """Follow a statement of `__init__`: an assignment to an attribute changes the object `made`, one to a name `env`,
        which has the values of names. A value that cannot be read, and any other statement, gets a note, but for texts and
        calls of an inherited `__init__`.
        """
        if isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.Constant) or "__init__" in ast.unparse(node.value)
        ):
            return
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign) and len(node.targets) == 1
            else getattr(node, "target", None)
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(target, ast.Name) and value is not None:
            env[target.id] = self._made(value, target.id, env)
            if is_unknown(env[target.id]):
                self.file.say("steps", node, "no module or plain value that can be read")
            return
        if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name) or value is None:
            self.file.say("steps", node, "it has no place in a program")
            return
        path = f"{made.path}.{target.attr}" if made.path else target.attr
        found = self._made(value, path, env)
        made.attributes[target.attr] = found  # type: ignore[index]
        if is_unknown(found):
            self.file.say("steps", node, "no module or plain value that can be read")

    def _made(self, node: ast.AST, path: str, env: Mapping[str, Any]) -> Any:
        """Return the value of an expression in `__init__` for the attribute `path` (as DSPy names it): a predictor, an object
        of another module class, a retriever, a list of these, or what `value` returns. `env` has the values of names.
        """
        predictor = self.file.predictor(node, path)
        known = env.get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(known, Predictor):  # DSPy names it after the attribute.
            self.predictors.pop(known.path, None)
            predictor = replace(known, path=path)
        if predictor is not None:
            self.predictors[path] = (predictor, node)
            return predictor
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.file.classes:
            known = self.file.classes[node.func.id]
            if self.file.is_module(known) and known.name not in self.open:
                self.open.append(known.name)
                made = self.instance(known, path, node)
                self.open.pop()
                return made
        if isinstance(node, ast.List):
            return [self._made(item, f"{path}[{place}]", env) for place, item in enumerate(node.elts)]
        if isinstance(node, ast.ListComp) and len(node.generators) == 1:
            turns = self.turns(node.generators[0].iter, env)
            if turns is not None:
                return [self._made(node.elt, f"{path}[{place}]", env) for place, _ in enumerate(turns)]
        name = self.file.dspy_name(node.func) if isinstance(node, ast.Call) else None
        if name is not None and ("Retrieve" in name or name in ("ColBERTv2", "Embeddings")):
            self.file.say("tools", node, "a retriever: write a tool for it, such as `search`")
            return Retriever(identifier(path))
        return self.value(node, env)

    def turns(self, node: ast.AST, env: Mapping[str, Any]) -> Sequence[Any] | None:
        """Return the values over which a loop runs, so that its body can be repeated for each; None where they are not known,
        or more than MOST_TURNS (10). `env` has the values of names.
        """
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            given = [self.value(one, env) for one in node.args]
            bounds = [one.value for one in given if isinstance(one, Constant) and isinstance(one.value, int)]
            if node.func.id == "range" and 0 < len(bounds) == len(given) < 4 and 0 not in bounds[2:]:
                numbers = [Constant(number) for number in itertools.islice(range(*bounds), MOST_TURNS + 1)]
                return numbers if len(numbers) <= MOST_TURNS else None
            if node.func.id == "enumerate" and len(given) == 1 and isinstance(given[0], list):
                pairs = [[Constant(place), item] for place, item in enumerate(given[0])]
                return pairs if len(pairs) <= MOST_TURNS else None
            return None
        found = self.value(node, env)
        return found if isinstance(found, list) and len(found) <= MOST_TURNS else None


def method_of(node: ast.ClassDef, *names: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the method of a class that has the first of `names` that any of its own methods has; None where none has
    one (inherited methods do not count).
    """
    found = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return next((one for name in names for one in found if one.name == name), None)


def is_straight(node: ast.For) -> bool:
    """Return whether a loop has neither `break`, `continue`, `return` (nor has a loop inside) nor `else`, so that it
    runs all its statements in all its turns.
    """
    left = (ast.Break, ast.Continue, ast.Return)
    return not node.orelse and not any(isinstance(part, left) for part in ast.walk(node))


def is_path(node: ast.AST) -> bool:
    """Return whether an expression is a name, an attribute or an item of one (by a constant or a name), so that it can be read
    twice without an effect.
    """
    if isinstance(node, ast.Attribute):
        return is_path(node.value)
    if isinstance(node, ast.Subscript):
        return is_path(node.value) and isinstance(node.slice, ast.Constant | ast.Name)
    return isinstance(node, ast.Name)


def is_simple(node: ast.If) -> bool:
    """Return whether both sides of a condition hold only assignments of any kind, expressions, `pass` and such
    conditions, so that the statements after it always run.
    """
    kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Pass)
    return all(
        isinstance(part, kinds) or (isinstance(part, ast.If) and is_simple(part)) for part in [*node.body, *node.orelse]
    )
