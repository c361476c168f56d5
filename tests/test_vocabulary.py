"""The code uses the glossary's words; names that it has given up do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cli", "optimizations", "reports", "scenarios", "tests", "ttsbench")
# Names that do not say what they hold: no variable, argument, attribute or function is called so.
VAGUE = {"also", "asked", "beside", "found", "given", "one", "said", "thing", "told", "tell", "wanted", "what"}
# Coined names, and the field's words in their place.
RETIRED = {
    "Arena": "ComparisonSetup",
    "Asked": "GateRequest",
    "Court": "CommitJudge",
    "Desk": "S3GenExecutor",
    "Found": "CellFields",
    "Hand": "ChunkSink",
    "Sheet": "Matrix",
    "Turnstile": "YieldingLock",
    "Weather": "a name for what varies",
    "campaign": "run",
    "drop_what_nobody_takes": "ignore_closed_stdout",
    "foreseen_by_nobody": "report_internal_error",
    "hungrier": "extra_memory",
    "lonely": "unpaired",
}
# A field of records keeps its name: files hold it.
FIELDS_OF_RECORDS = {("ttsbench/records/measurements.py", "beside")}
TERMS_MAX = 40


def python_files() -> list[Path]:
    linked = {ROOT / "ttsbench" / name for name in FOLDERS}
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in paths if not linked & set(path.parents)]


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that the code chooses: of functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.alias(asname=str(name)):
                yield getattr(node, "lineno", 0), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_retired_name(folder: str) -> None:
    problems = []
    for path in (path for path in python_files() if path.relative_to(ROOT).parts[0] == folder):
        for line, name in bound_names(ast.parse(path.read_text())):
            if (str(path.relative_to(ROOT)), name) in FIELDS_OF_RECORDS:
                continue
            if name in VAGUE:
                problems.append(f"{path.relative_to(ROOT)}:{line}: '{name}' does not say what it holds")
            elif name in RETIRED:
                problems.append(f"{path.relative_to(ROOT)}:{line}: '{name}' is retired; write {RETIRED[name]}")
    assert not problems, "\n" + "\n".join(problems)


def test_the_glossary_defines_each_term_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    terms = [
        term.strip()
        for cell in re.findall(r"^\| ([^|-][^|]*) \|", text, re.MULTILINE)
        if cell.strip() != "term"
        for term in cell.split(",")
    ]
    assert len(terms) == len(set(terms))
    assert len(re.findall(r"^\| (?!term|---)[^|]+ \|", text, re.MULTILINE)) <= TERMS_MAX
