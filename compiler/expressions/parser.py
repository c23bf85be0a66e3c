"""Reading an expression: Python's syntax, cut down to an allow-list, with the names that it reads."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from lmprog.compiler.errors import Handled
from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.findings.other_words import FUNCTIONS as OTHER_FUNCTIONS

ROOTS = ("inputs", "steps", "state", "loop", "item", "row", "outputs", "vars", "metrics", "trace", "runs", "env")
"""The names that an expression may begin with; which of them are known depends on its place."""
CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
MAX_LENGTH, MAX_DEPTH = 20_000, 120


class ExpressionError(Handled):
    """The error of a text that is no expression, with what its finding needs: `message`, `code`, how to fix it (`fix`,
    None: not known), and `offset`, the character of the text at fault, from 0."""

    def __init__(self, message: str, offset: int = 0, fix: str | None = None, code: str = "LMP101") -> None:
        super().__init__(message)
        self.message, self.offset, self.fix, self.code = message, offset, fix, code


_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_SLIPS = [
    (re.compile(wrong), right)
    for wrong, right in (
        (r"\$\{\{", "`${{ }}` around the whole expression, or no marks"),
        (r"&&", "`and`"),
        (r"\|\|", "`or`"),
        (r"!==", "`!=`"),
        (r"===", "`==`"),
        (r"<>", "`!=`"),
        (r":=", "`==`"),
        (r"=>", "`>=`"),
        (r"=<", "`<=`"),
        (r"\?", "`a if condition else b`"),
        (r"!(?!=)", "`not`"),
        (r"\b(?:AND|OR|NOT|IN|IS)\b", ""),
        (r"\beq\b", "`==`"),
        (r"\bne\b", "`!=`"),
        (r"\bgt\b", "`>`"),
        (r"\blt\b", "`<`"),
        (r"[\u2018-\u201f]", "straight quotes"),
        (r"(?<![=!<>])=(?!=)", "`==`"),
    )
]
"""Operators of other languages, each with its form in an expression; words in capitals are written small."""


def _slip(text: str) -> tuple[int, str, str] | None:
    """Return the place, the message and the fix of a usual slip in a text that is no expression, or None."""
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    for pattern, right in _SLIPS:
        found = pattern.search(bare)
        if found is not None:
            part = "part" if found[0] == "${{" or not found[0].isascii() else "operator"
            wrong = f"`{found[0]}` is no {part} of an expression"
            return found.start(), wrong, f"write {right or f'`{found[0].lower()}`'}"
    quote = re.search("[\"']", bare)
    if quote is not None:
        return quote.start(), "a quote is not closed", f"write {quote[0]} at the end of the text"
    for opening, closing in ("()", "[]", "{}"):
        if bare.count(opening) > bare.count(closing):
            return bare.rindex(opening), f"a `{opening}` is not closed", f"write `{closing}`"
    return None


@lru_cache(maxsize=65536)
def parse(text: str) -> ast.expr:
    """Return Python's syntax tree of an expression without `${{ }}`; equal texts give the same tree, which nobody may
    change. Raises ExpressionError for a text that is no expression, or has a part that is not allowed, a function or
    root that does not exist among them.
    """
    line = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    stripped = line.strip()
    lead = len(line) - len(line.lstrip())
    if not stripped:
        raise ExpressionError("the expression is empty")
    if len(stripped) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        tree = _quiet_tree(stripped) if _WARNED_OF.search(stripped) else _tree(stripped)
    except SyntaxError as error:
        if (slip := _slip(stripped)) is not None:
            position, message, fix = slip
            raise ExpressionError(message, lead + position, fix) from None
        offset = lead + max(0, (error.offset or 1) - 1)
        shown = stripped if len(stripped) <= 60 else stripped[:57] + "..."
        raise ExpressionError(f"`{shown}` is no expression", min(offset, len(line) - 1)) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression cannot be read", lead) from None
    _Checker(stripped, lead).check(tree, 0)
    return tree


_WARNED_OF = re.compile(r"\\|(?<!\w)\d[\d_]*\.?[^\W\d_]")
"""A part of a text of which Python's parser may warn: an escape that it does not know, a number with a letter behind it."""


def _quiet_tree(text: str) -> ast.expr:
    """Return what `_tree` does, without Python's warnings of odd texts. It takes twice as long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return _tree(text)


_KEYWORDS = "|".join(keyword.kwlist)
_AFTER_DOT = re.compile(rf"""("[^"]*"|'[^']*')|(?<=\.)({_KEYWORDS})\b""")


def _tree(text: str) -> ast.expr:
    """Return Python's syntax tree of an expression whose fields may be Python keywords, as in `inputs.class`.

    Python recognizes a keyword by its exact letters, and reads `ｃlass`, whose first letter is another character, as
    the name `class`: identifiers are normalized after keywords are recognized.
    """
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        replaced = _AFTER_DOT.sub(lambda found: found[1] or chr(ord(found[2][0]) + 0xFEE0) + found[2][1:], text)
        if replaced == text:
            raise
        tree = ast.parse(replaced, mode="eval").body
        for node in ast.walk(tree):
            # Columns are bytes, and each replaced letter has two more than its own.
            for name in ("col_offset", "end_col_offset"):
                column = getattr(node, name, None)
                if column is not None:
                    before = replaced.encode()[:column].decode(errors="ignore")
                    setattr(node, name, len(text[: len(before)].encode()))
        return tree


def offset_of(text: str, node: ast.AST) -> int:
    """Return the offset, from 0 and in characters, at which a node of the expression `text` starts."""
    lead = len(text) - len(text.lstrip())
    column: int = getattr(node, "col_offset", 0)
    encoded = text.strip().encode()
    return lead + (column if len(encoded) == len(text.strip()) else len(encoded[:column].decode(errors="replace")))


def length_of(text: str, node: ast.AST) -> int:
    """Return the length in characters, at least 1, of a node of the expression `text`."""
    encoded = text.strip().encode()
    written = encoded[getattr(node, "col_offset", 0) : getattr(node, "end_col_offset", 0) or 0]
    return max(1, len(written.decode(errors="replace")))


_NODES = (
    ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.Attribute, ast.Subscript, ast.Slice, ast.List,
    ast.Dict, ast.Constant, ast.Name, ast.Call,
)  # fmt: skip
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_WORDS = {
    ast.Lambda: "a lambda", ast.ListComp: "a comprehension", ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension", ast.DictComp: "a comprehension", ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment", ast.Starred: "`*`", ast.Set: "a set", ast.Tuple: "a tuple",
    ast.Await: "await", ast.Yield: "yield",
}  # fmt: skip
_COMPREHENSION = (
    "write pluck(list, 'field') for a field of each, unique(list), compact(list) or subset(list, of); "
    "else a step with foreach"
)
_FIXES = {
    ast.Tuple: "write a list: [a, b]",
    ast.JoinedStr: 'use join([...], "") or +',
    ast.Set: "write a list: [a, b]",
    **dict.fromkeys((ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp), _COMPREHENSION),
}


class _Checker:
    """The check that the tree of the expression `text` holds nothing that is not of the language; `lead` is the number of
    blanks before the expression, which count in the offsets of errors."""

    def __init__(self, text: str, lead: int) -> None:
        self.text, self.lead = text, lead

    def fail(self, node: ast.AST, message: str, fix: str | None = None, code: str = "LMP101") -> ExpressionError:
        """Return the error for a node; None for a fix that is not known."""
        return ExpressionError(message, self.lead + offset_of(self.text, node), fix, code)

    def check(self, node: ast.AST, depth: int) -> None:
        """Raise ExpressionError for the first part of a node that is not allowed; `depth` is its level of nesting."""
        if depth > MAX_DEPTH:
            raise ExpressionError("the expression is nested too deeply", self.lead)
        kind = type(node)
        if not isinstance(node, _NODES):
            what = _WORDS.get(kind, f"`{kind.__name__}`")
            raise self.fail(node, f"an expression cannot hold {what}", _FIXES.get(kind))
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
            raise self.fail(node, f"`{node.value!r}` is no value of the language")
        if isinstance(node, ast.Name):
            self._name(node)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            raise self.fail(node, f"`{node.attr}` cannot be read", code="LMP201")
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
            raise self.fail(node, "this operator is not of the language")
        elif isinstance(node, ast.BinOp) and not isinstance(node.op, _ARITHMETIC):
            raise self.fail(node, "this operator is not of the language", "use + - * / // %")
        if isinstance(node, ast.Call):
            self._call(node)
            children: Iterator[ast.AST] = iter(node.args)
        else:
            children = _operands(node)
        for child in children:
            self.check(child, depth + 1)

    def _name(self, node: ast.Name) -> None:
        if node.id in ROOTS or node.id in CONSTANTS:
            return
        fix = f"call it: {FUNCTIONS[node.id].about}" if node.id in FUNCTIONS else suggestion(node.id, ROOTS, "roots")
        raise self.fail(node, f"`{node.id}` is not a root of expressions", fix, "LMP201")

    def _call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name):
            method = node.func.attr if isinstance(node.func, ast.Attribute) else None
            fix = f"write {FUNCTIONS[method].about}" if method in FUNCTIONS else None
            fix = f"write {OTHER_FUNCTIONS[method]}" if method in OTHER_FUNCTIONS else fix
            raise self.fail(node, "a value cannot be called", fix)
        function = FUNCTIONS.get(node.func.id)
        if function is None:
            other = OTHER_FUNCTIONS.get(node.func.id)
            fix = f"write {other}" if other else suggestion(node.func.id, FUNCTIONS, "functions")
            raise self.fail(node, f"there is no function `{node.func.id}`", fix, "LMP201")
        if node.keywords:
            raise self.fail(node, "arguments of a function have no names", function.about)
        count = len(node.args)
        if count < function.least or (function.most is not None and count > function.most):
            raise self.fail(node, f"`{node.func.id}` cannot take {count} argument(s)", function.about)
        last = node.args[-1] if node.args else None
        names_field = node.func.id in ("pluck", "most_common") and count == 2
        if names_field and isinstance(last, ast.Name) and last.id not in (*ROOTS, *CONSTANTS):
            message = f"`{last.id}` is no text: `{node.func.id}` takes the name of a field in quotes"
            raise self.fail(last, message, f"write '{last.id}'", "LMP201")


def _operands(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that are expressions or slices."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr | ast.Slice):
            yield child


def dotted(node: ast.AST) -> tuple[str, ...] | None:
    """Return the path of names that a node reads, such as `("steps", "a", "b")` for `steps.a.b` and `steps["a"].b`, or
    `("item",)`; None for a node that does more than read a root of the language (ROOTS) and its fields."""
    names: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if not isinstance(node.slice.value, str):
                return None
            names.append(node.slice.value)
            node = node.value
        elif isinstance(node, ast.Name) and node.id in ROOTS:
            return (node.id, *reversed(names))
        else:
            return None


def references(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the paths of names that an expression reads, each at full length as a tuple (`steps.a.b` is `("steps", "a",
    "b")`, `steps.a[0].b` is `("steps", "a")`), in the order of the syntax tree, in which a condition comes before its
    cases; repeated ones too."""
    name = dotted(tree)
    if name is not None:
        yield name
        return
    children = tree.args if isinstance(tree, ast.Call) else _operands(tree)
    for child in children:
        yield from references(child)
