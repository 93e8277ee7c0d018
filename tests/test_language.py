"""Documents, help texts and messages are in the field's words and in American spelling. Code is exempt."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
FILES = sorted(path for path in ROOT.rglob("*.py") if not {".venv", "tests", "build"} & {*path.relative_to(ROOT).parts})
COMMANDS = [path for path in FILES if "argparse" in path.read_text() or "CommandLine" in path.read_text()]
CALLS = {"ArgumentParser", "add_argument", "add_argument_group", "add_parser", "command", "parser"}

PRIVATE = {  # a word of our own -> the field's
    r"cells?": "experiment",
    r"robots?": "MuJoCo task, MaMuJoCo",
    r"protocols?": "shared settings, evaluation schedule, checkpoint selection",
    r"windows?": "sequence, sequence length",
    r"lanes": "environments, num_envs",
    r"(il)?legal": "(un)available action",
    r"rows per update": "batch size",
    r"by playing( them)?": "by online evaluation",
    r"flatters": "is optimistic",
    r"at hand": "available, supported",
    r"same door": "same interface",
    r"made again": "re-run",
    r"swells?": "exceeds its memory limit",
    r"whose data (is|are) there": "that have data",
    r"nobody|somebody|no one": "name who, or use the passive",
    r"tells?|told": "says, explains, lists, separates",
    r"without news": "reports no progress",
    r"so many": "the number",
    r"anew": "again",
    r"(is|are|was|were) to be": "must be",
    r"the way out": "name it",
    r"nothing changes any more": "convergence",
    r"this project's:": "ours",
}
BRITISH = (
    r"\w*(optimis(?!t)|normalis|standardis|regularis|initialis|generalis|maximis|minimis|centralis|factoris|penalis|summaris|organis)\w*"
    r"|\w*(behaviour|colour|favour|neighbour|armour|honour)\w*|centred?|licen[c]es?|judgement|grey"
)
ALLOWED = {"docs/smac.md": {"cells?", "lanes"}, "docs/smacv2.md": {"cells?"}}  # distances are in cells of the map's grid


def prose(text: str) -> str:
    """A page without code, links and generated tables."""
    text = re.sub(r"<!-- \S+(?: \w+)? -->.*?<!-- end -->", "", text, flags=re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"`[^`\n]*`", "`code`", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def help_texts(path: Path) -> str:
    """What argparse is given: texts in calls, and the constants and the docstring that they name."""
    tree = ast.parse(path.read_text())
    constants = {"__doc__": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            constants |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", getattr(node.func, "id", "")) not in CALLS:
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name):
                found.append(constants.get(part.id, ""))
    return "\n".join(dict.fromkeys(found))


def messages(path: Path) -> str:
    """What a module prints, and the texts of its UserErrors."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("print", "UserError"):
            formats = {
                part for x in ast.walk(node) if isinstance(x, ast.FormattedValue) and x.format_spec for part in ast.walk(x.format_spec)
            }
            found += [x.value for x in ast.walk(node) if isinstance(x, ast.Constant) and isinstance(x.value, str) and x not in formats]
    return "\n".join(found)


def faults(text: str, allowed: set[str] = frozenset()) -> list[str]:
    """The words that do not belong in a text, with what to write instead."""
    found = []
    for pattern, instead in PRIVATE.items():
        if pattern not in allowed:
            found += [f"{match[0]!r}: {instead}" for match in re.finditer(rf"\b({pattern})\b", text, re.I)]
    found += [f"{match[0]!r}: American spelling" for match in re.finditer(rf"\b({BRITISH})\b", text, re.I)]
    found += [f"{match[0]!r}: a zero before the point" for match in re.finditer(r"(?<![\w.)\]/*-])\.\d+", text)]
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_are_in_the_words_of_the_field(page):
    assert not faults(prose(page.read_text()), ALLOWED.get(name(page), frozenset()))


@pytest.mark.parametrize("path", COMMANDS, ids=name)
def test_help_texts_are_in_the_words_of_the_field(path):
    assert not faults(help_texts(path))


def test_messages_are_in_the_words_of_the_field():
    assert not {name(path): found for path in FILES if (found := faults(messages(path)))}


def test_the_help_of_the_make_targets_is_in_the_words_of_the_field():
    assert not faults("\n".join(re.findall("## (.*)", (ROOT / "Makefile").read_text())))


def test_the_search_finds_what_it_looks_for():
    assert len(faults("Of a finished cell: nobody made it again, at .5 of the behaviour's windows.")) == 5
    assert not faults("An experiment with a learning rate of 0.5 and a version 1.2.")
