"""`python -m hypervisor.images`: the catalogue without the command line's comforts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hypervisor.images.errors import DescriptionError, ImageError
from hypervisor.images.images import Images


def main(arguments: list[str] | None = None) -> int:
    """List, pull, build or show images; returns the exit code (2: wrong YAML, 3: cannot do it)."""
    parser = argparse.ArgumentParser(prog="python -m hypervisor.images")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names of all images")
    for name, text in (("pull", "fetch an image"), ("show", "print where its files are")):
        commands.add_parser(name, help=text).add_argument("image", metavar="NAME[/FILE]")
    commands.add_parser("build", help="build a recipe").add_argument("recipe", type=Path)
    given = parser.parse_args(arguments)
    try:
        images = Images(progress=_report)
        if given.command == "list":
            print("\n".join(images.names()))
        elif given.command == "pull":
            for name, path in images.pull(given.image).items():
                print(f"{name}\t{path}")
        elif given.command == "build":
            print(images.build(given.recipe))
        else:
            for file in images.show(given.image).files:
                print(f"{file.reference}\t{file.path or 'not in the cache'}")
    except DescriptionError as error:
        print(error, file=sys.stderr)
        return 2
    except ImageError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def _report(task: str, fraction: float | None) -> None:
    if fraction is None or fraction == 1.0:
        print(task, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
