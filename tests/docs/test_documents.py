"""The documents, worked through as a newcomer would: files are written, commands typed, and what
is printed is held against what the document shows.

A fenced block's first line says what it is:

- `LANGUAGE NAME`: a file of that name.
- `console`: commands (`$ `) and what they print. A line of `...` stands for any lines, and `...`
  in a line for any text. A command that ends in `# exit N` ends with that code.
- `console guest`: the same, and it boots Linux. Each such block stands for itself.
- `console typed`: one command on a terminal, Ctrl-A c where the page says so, and what is typed to
  the monitor behind it.
- `console host`: changes the host or wants a person; it is checked to be possible, not run.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pexpect
import pytest

from hypervisor.images import Images
from tools.main import cli
from tools.monitor.text import PROMPT

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
EXAMPLES = ROOT / "docs" / "examples"
HOST_SECONDS = 300

FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
EXIT = re.compile(r"\s+# exit (\d+)$")
UNSEEN = re.compile(r"\r|\x1b\[[0-9;?]*[A-Za-z]")
"""What a terminal does not show."""
NAMED = re.compile(r"`((?:configs|devices|docs|hypervisor|tests|tools)/[\w/.*-]*)`")
"""A file of the project, or a folder."""
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block; `word` is a file's name or a console's kind."""

    language: str
    word: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """One command of a console block, what it prints and its exit code."""

    text: str
    output: str
    code: int
    line: int


def blocks(document: Path) -> list[Block]:
    source = document.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], match[3], source.count("\n", 0, match.start()) + 1)
        for match in FENCE.finditer(source)
    ]


def files(document: Path) -> dict[str, str]:
    """The files that a document has its reader write."""
    found = [block for block in blocks(document) if block.word and block.language != "console"]
    return {block.word: block.text for block in found}


def consoles(document: Path, kind: str) -> list[Block]:
    """The console blocks of a kind."""
    wanted = ("console", kind)
    return [block for block in blocks(document) if (block.language, block.word) == wanted]


def commands_of(block: Block) -> list[Command]:
    """What a console block has the reader type."""
    found = []
    for match in COMMAND.finditer(block.text):
        text = match[1].replace("\\\n", " ")
        ending = EXIT.search(text)
        line = block.line + 1 + block.text.count("\n", 0, match.start())
        code = int(ending[1]) if ending else 0
        found.append(Command(EXIT.sub("", text), match[2], code, line))
    return found


def commands(document: Path, kind: str) -> list[Command]:
    """What a document has its reader type in the console blocks of a kind."""
    return [command for block in consoles(document, kind) for command in commands_of(block)]


def pattern(output: str) -> re.Pattern[str]:
    """What matches the output that a document shows."""
    parts = []
    for line in output.splitlines():
        text = ".*?".join(re.escape(piece) for piece in line.rstrip().split("..."))
        parts.append(r"(?:.*\n)*?" if line.strip() == "..." else text + r" *\n")
    return re.compile("".join(parts))


def type_command(command: Command, folder: Path) -> None:
    """Run a command in `folder` and hold what it prints against the document."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", command.text],
        cwd=folder,
        env=dict(os.environ, PATH=path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HOST_SECONDS,
        check=False,
    )
    printed = UNSEEN.sub("", result.stdout.decode(errors="replace")).rstrip("\n") + "\n"
    told = f"line {command.line}: $ {command.text}\n{printed}"
    assert result.returncode == command.code, told
    shown = command.output or "...\n"
    assert pattern(shown).fullmatch(printed), told


def write_files(document: Path, folder: Path) -> None:
    for name, text in files(document).items():
        (folder / name).write_text(text, encoding="utf-8")


def of_kind(kind: str) -> list[Path]:
    return [document for document in DOCUMENTS if commands(document, kind)]


def consoles_of_all(kind: str) -> list[tuple[Path, Block]]:
    return [(document, block) for document in DOCUMENTS for block in consoles(document, kind)]


def name_of(value: object) -> str:
    if isinstance(value, Block):
        return f"line {value.line}"
    return value.name if isinstance(value, Path) else str(value)


@pytest.mark.parametrize("document", of_kind(""), ids=name_of)
def test_commands_print_what_the_document_shows(document: Path, tmp_path: Path) -> None:
    write_files(document, tmp_path)

    for command in commands(document, ""):
        type_command(command, tmp_path)


@pytest.fixture(scope="session")
def images() -> None:
    """Fetches what the pages boot, so that what fetching says is not taken for a guest's words."""
    fetched = Images()
    for name in fetched.names():
        if "riscv64" in name or name == "opensbi":
            for file in fetched.show(name).files:
                fetched.path(f"{name}/{file.reference.file}")


@pytest.mark.guest
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(("document", "block"), consoles_of_all("guest"), ids=name_of)
def test_guests_print_what_the_document_shows(document: Path, block: Block, tmp_path: Path) -> None:
    write_files(document, tmp_path)

    for command in commands_of(block):
        type_command(command, tmp_path)


@pytest.mark.parametrize(("document", "block"), consoles_of_all("typed"), ids=name_of)
def test_monitor_answers_what_the_document_shows(
    document: Path, block: Block, tmp_path: Path
) -> None:
    write_files(document, tmp_path)
    before, *dialogue = re.split(rf"^{re.escape(PROMPT)}", block.text, flags=re.MULTILINE)
    command, *shown = before.splitlines()
    last = shown[-1].removesuffix("(Ctrl-A c)").rstrip()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = ["-c", command.removeprefix("$ ")]
    environment = dict(os.environ, PATH=path)
    guest = pexpect.spawn(
        *("bash", words), cwd=str(tmp_path), env=environment, timeout=HOST_SECONDS, encoding="utf-8"
    )
    guest.expect_exact(last)
    guest.send("\x01c")
    guest.expect_exact(PROMPT)

    for typed, _, expected in (each.partition("\n") for each in dialogue[:-1]):
        guest.send(f"{typed}\r")
        guest.expect_exact(PROMPT)
        answer = UNSEEN.sub("", guest.before).partition("\n")[2]
        assert pattern(expected).fullmatch(answer), f"{typed}\n{answer}"
    guest.send(f"{dialogue[-1].strip()}\r")
    guest.expect(pexpect.EOF)
    guest.close()
    assert guest.exitstatus == 0


MAKE = [c for d in DOCUMENTS for c in commands(d, "host") if c.text.startswith("make ")]
OURS = [c for d in DOCUMENTS for c in commands(d, "host") if c.text.startswith("hypervisor ")]


@pytest.mark.parametrize("command", MAKE, ids=lambda command: command.text)
def test_make_target_exists(command: Command) -> None:
    words = shlex.split(command.text, comments=True)

    result = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", OURS, ids=lambda command: command.text)
def test_command_line_is_understood(command: Command) -> None:
    words = shlex.split(command.text, comments=True)[1:]
    group: click.Command = cli
    while isinstance(group, click.Group):
        name = words.pop(0)
        group = group.commands[name]

    context = group.make_context(group.name, words)

    assert context.params


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_code_blocks_parse(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            ast.parse(block.text, f"{document.name}:{block.line}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))

    missing = [target for target in targets if not (document.parent / target).exists()]

    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_exist(document: Path) -> None:
    names = NAMED.findall(document.read_text(encoding="utf-8"))

    missing = [name for name in names if not list(ROOT.glob(name))]

    assert missing == []


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=name_of)
def test_example_is_the_one_in_a_document(example: Path) -> None:
    shown = [text for document in DOCUMENTS if (text := files(document).get(example.name))]

    assert shown == [example.read_text(encoding="utf-8")]
