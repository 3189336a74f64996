"""House rules that a formatter cannot hold: lengths, words, docstrings, imports of the core."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

FUNCTION_LINES = 70
FILE_LINES = {"src": 400, "benchmarks": 400, "tests": 600}

#: Python's own files, everything else that is written by hand, and what is not ours to judge
PYTHON = sorted(path for root in FILE_LINES for path in (REPO / root).rglob("*.py"))
SOURCE = [path for path in PYTHON if path.is_relative_to(REPO / "src")]
TEXT_SUFFIXES = {".cfg", ".css", ".html", ".js", ".md", ".svg", ".toml", ".yaml", ".yml", ""}
VENDORED = {"uplot.min.js", "uplot.min.css", "uplot.LICENSE"}

CORE = {"entities", "lifecycle", "planner", "policy", "prescheduler"}
#: the standard library without clocks, chance, threads, files and network
CORE_MAY_IMPORT = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "types",
    "typing",
}
#: and what one room of the core may import besides (docs/decisions/0010)
ROOM_MAY_IMPORT = {"prescheduler": {"numpy"}}

#: words of an identifier that the glossary replaces (docs/glossary.md)
WRONG_WORDS = {
    "helper": "say what it answers",
    "helpers": "say what it answers",
    "itl": "tbt",
    "manager": "say what it answers",
    "misc": "say what is in it",
    "num": "a plural noun",
    "qps": "rps for requests, tps for tokens",
    "util": "say what it answers",
    "utils": "say what it answers",
    "worker": "instance",
    "workers": "instances",
}
#: runs of words that are wrong only together
WRONG_PHRASES = {
    "scale_down": "scale_in",
    "scale_up": "scale_out",
    "scaled_down": "scaled_in",
    "scaled_up": "scaled_out",
    "cooldown": "cool_down",
}
#: whole words an identifier may not start with
WRONG_STARTS = {"do": "the verb itself", "process": "the verb for the answer it gives"}
#: identifiers that others chose
NOT_OURS = {"LEADER_WORKER_SET", "do_GET", "do_POST", "do_PUT"}


def relative(path: Path) -> str:
    """Return a path as a reader of the repository writes it."""
    return path.relative_to(REPO).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a file, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every name a file introduces, with its line: what it merely calls is not its choice."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case _:
                pass
    yield path.stem, 1


def wrong_word(identifier: str) -> str | None:
    """Return what to say instead, or None when the glossary has nothing against a name."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().strip("_")
    words = snake.split("_")
    for phrase, instead in WRONG_PHRASES.items():
        if re.search(rf"(^|_){phrase}(_|$)", snake):
            return instead
    if len(words) > 1 and words[0] in WRONG_STARTS:
        return WRONG_STARTS[words[0]]
    if snake in {"data", "info"}:
        return "say what it holds"
    return next((WRONG_WORDS[word] for word in words if word in WRONG_WORDS), None)


def written_files() -> list[Path]:
    """Return the text files of the repository that people write."""
    roots = ["src", "tests", "benchmarks", "docs", "examples", ".ci"]
    nested = [path for root in roots for path in (REPO / root).rglob("*") if path.is_file()]
    top = [path for path in REPO.iterdir() if path.is_file() and path.name != "LICENSE"]
    return sorted(
        path
        for path in (*nested, *top)
        if (path.suffix in TEXT_SUFFIXES or path.suffix == ".py")
        and path.name not in VENDORED
        and "__pycache__" not in path.parts
        and not path.name.startswith(".coverage")
    )


def test_there_is_something_to_judge() -> None:
    assert len(SOURCE) > 20
    assert len(written_files()) > len(PYTHON)


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_functions_and_files_are_short(path: Path) -> None:
    root = relative(path).split("/")[0]
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= FILE_LINES[root], f"{relative(path)} has {lines} lines"
    long = {
        node.name: length
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) >= FUNCTION_LINES
    }
    assert long == {}, f"{relative(path)}: {long}"


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_names_are_from_the_glossary(path: Path) -> None:
    wrong = sorted(
        f"{relative(path)}:{line}: {name} (say: {instead})"
        for name, line in set(identifiers(path))
        if name not in NOT_OURS and (instead := wrong_word(name))
    )
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        pytest.param("scale_up_by", "scale_out", id="vertical words for horizontal moves"),
        pytest.param("num_replicas", "a plural noun", id="a count spelled as a number"),
        pytest.param("WorkerPool", "instance", id="inside a class name"),
        pytest.param("FleetManager", "say what it answers", id="a class that manages"),
        pytest.param("process_tick", "the verb for the answer it gives", id="a verb of no meaning"),
        pytest.param("data", "say what it holds", id="a name of no meaning"),
        pytest.param("number", None, id="a word that merely begins like a wrong one"),
        pytest.param("process", None, id="an operating system process"),
        pytest.param("cool_down_until_s", None, id="the glossary's own spelling"),
    ],
)
def test_the_word_list_catches(name: str, instead: str | None) -> None:
    assert wrong_word(name) == instead


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_public_functions_say_what_they_answer(path: Path) -> None:
    module = tree(path)
    silent = [] if ast.get_docstring(module) or not module.body else ["the module itself"]
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    scopes: list[ast.Module | ast.ClassDef] = [module, *classes]
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and ast.get_docstring(node) is None:
                silent.append(node.name)
    assert silent == [], relative(path)


@pytest.mark.parametrize("path", written_files(), ids=relative)
def test_nothing_unfinished_and_no_path_of_one_machine(path: Path) -> None:
    # Put together here so that this file does not find itself.
    marks = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"])
    folders = "|".join(["/ho" + "me/", "/wo" + "rk/", "/Us" + "ers/", "/ro" + "ot/"])
    pattern = re.compile(rf"\b(?:{marks})\b|(?<![\w.]) *(?:{folders})\w")
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_no_mock_library(path: Path) -> None:
    assert "mock" not in {name.split(".")[-1] for name in imported(path)}


def imported(path: Path) -> Iterator[str]:
    """Yield every module a file imports, by its full name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCE if path.relative_to(REPO / "src/heteroscale").parts[0] in CORE],
    ids=relative,
)
def test_the_core_imports_only_what_has_no_outside(path: Path) -> None:
    room = path.relative_to(REPO / "src/heteroscale").parts[0]
    roots = {name.split(".")[0] for name in imported(path)} - {"heteroscale"}
    roots -= ROOM_MAY_IMPORT.get(room, set())
    assert roots <= CORE_MAY_IMPORT, relative(path)
    assert roots <= set(sys.stdlib_module_names)


def test_every_command_is_in_the_readme() -> None:
    commands = {
        word
        for path in (REPO / "src/heteroscale/cli").rglob("*.py")
        for node in functions(path)
        for decorator in node.decorator_list
        if (word := command_name(decorator, node.name))
    }
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    assert commands
    assert {word for word in commands if f"heteroscale {word}" not in readme} == set()


def command_name(decorator: ast.expr, function: str) -> str | None:
    """Return the word on the command line that a decorated function answers to, if it is one."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return None
    if decorator.func.attr != "command":
        return None
    if decorator.args and isinstance(decorator.args[0], ast.Constant):
        return str(decorator.args[0].value)
    return function.replace("_", "-")


def test_every_make_target_says_what_it_is_for() -> None:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, flags=re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.* ## \S", makefile, flags=re.MULTILINE))
    assert {"run", "test", "lint", "type", "check", "bench", "docs"} <= targets
    assert targets == described


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{relative(path)}: {target}"
        for path in written_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]
    assert broken == []
