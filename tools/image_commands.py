"""`hypervisor image`: guest images of the catalogue, and recipes of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from tools.errors import HOST


@click.group()
def image() -> None:
    """Fetch, build and find guest images."""


@image.command("list")
def list_images() -> None:
    """List the catalogue's images and their files."""
    from hypervisor.images import Images

    images = Images()
    for name in images.names():
        info = images.show(name)
        click.echo(f"{click.style(name, bold=True)}  {info.description}")
        for file in info.files:
            state = "cached" if file.path else "not fetched"
            click.echo(f"  {file.reference}  {state}")


@image.command()
@click.argument("name", metavar="NAME[/FILE]")
def pull(name: str) -> None:
    """Fetch the current version of an image, or of one of its files."""
    from hypervisor.images import Images
    from tools.progress import progress

    with progress() as report:
        files = Images(progress=report).pull(name)
    for file, path in files.items():
        click.echo(f"{file}\t{path}")


@image.command()
@click.argument("recipe", type=click.Path(path_type=Path), metavar="RECIPE.yaml")
def build(recipe: Path) -> None:
    """Build the initramfs or disk of a recipe, and print where it is."""
    from hypervisor.images import Images
    from tools.progress import progress

    with progress() as report:
        path = Images(progress=report).build(recipe)
    click.echo(path)


@image.command()
@click.argument("name", metavar="NAME[/FILE]")
def show(name: str) -> int:
    """Print the path of the cached file, or of each file that an image has.

    Ends with 3 where one is not cached.
    """
    from hypervisor.images import Images

    files = Images().show(name).files
    missing = [str(file.reference) for file in files if file.path is None]
    one = "/" in name.removeprefix("image:")
    for file in files:
        if file.path is not None:
            click.echo(str(file.path) if one else f"{file.reference.file}\t{file.path}")
    for reference in missing:
        pulled = reference.removeprefix("image:")
        click.echo(f"{reference} is not cached; `hypervisor image pull {pulled}`", err=True)
    return HOST if missing else 0
