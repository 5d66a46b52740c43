"""The Debian archives that this host's apt already knows and trusts.

Reads both formats of sources.list(5), deb822 (`*.sources`) and one line per source (`*.list`), and
keeps what serves the main Debian archive. Other suites of the same archive are then asked for at
the same address with the same keys; nothing here is written back to the host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.images.errors import NoPackageSource

_RELEASES = {"buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"}
_RELEASES |= {"oldoldstable", "oldstable", "stable", "testing", "unstable"}


@dataclass(frozen=True)
class Source:
    """One archive: its address and the keyring (a path, or the keys themselves) that signs it."""

    uri: str
    signed_by: str | None

    def stanza(self, suite: str, architecture: str) -> str:
        """A deb822 source for one suite; only package indices are fetched."""
        lines = [
            "Types: deb",
            f"URIs: {self.uri}",
            f"Suites: {suite}",
            "Components: main",
            f"Architectures: {architecture}",
            "Targets: Packages",
        ]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def debian_archives(paths: Sequence[Path] | None = None) -> list[Source]:
    """Main Debian archives among the host's sources, most likely first. Raises NoPackageSource.

    `paths` are source files to read in place of /etc/apt/sources.list and sources.list.d.
    """
    files = default_files() if paths is None else list(paths)
    found: list[tuple[int, Source]] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parse = parse_deb822 if file.suffix == ".sources" else parse_list
        found += [(_likelihood(entry), entry.source) for entry in parse(text) if _is_main(entry)]
    ordered = [source for _, source in sorted(found, key=lambda item: -item[0])]
    if not ordered:
        names = ", ".join(str(file) for file in files) or "/etc/apt"
        raise NoPackageSource(f"no main Debian archive is among this host's apt sources ({names})")
    best = max(score for score, _ in found)
    likely = {source for score, source in found if score == best}
    return list(dict.fromkeys(source for source in ordered if source in likely))


def default_files(etc: Path = Path("/etc/apt")) -> list[Path]:
    """The source files apt reads, in its order."""
    parts = etc / "sources.list.d"
    names = sorted(parts.iterdir()) if parts.is_dir() else []
    return [
        file
        for file in [etc / "sources.list", *names]
        if file.is_file() and file.suffix in (".list", ".sources")
    ]


@dataclass(frozen=True)
class Entry:
    """One line or stanza of a source file, for one address."""

    source: Source
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_list(text: str) -> Iterator[Entry]:
    """Entries of the one-line format: `deb [option=value ...] uri suite component...`."""
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#]*)", line)
        fields = match["rest"].split() if match else []
        if not match or len(fields) < 2:
            continue
        options = dict(
            part.split("=", 1) for part in (match["options"] or "").split() if "=" in part
        )
        source = Source(fields[0], options.get("signed-by"))
        yield Entry(source, (fields[1],), tuple(fields[2:]))


def parse_deb822(text: str) -> Iterator[Entry]:
    """Entries of the deb822 format: stanzas of `Key: value` with continued lines."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields.get(key, '')}\n{line}"
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or _no(fields.get("enabled", "yes")):
            continue
        for uri in fields.get("uris", "").split():
            source = Source(uri, fields.get("signed-by") or None)
            suites = tuple(fields.get("suites", "").split())
            yield Entry(source, suites, tuple(fields.get("components", "").split()))


def _no(value: str) -> bool:
    return value.strip().lower() in ("no", "false", "without", "off", "disable", "0")


def _is_main(entry: Entry) -> bool:
    """A release by its plain name (not `-security`, `-updates`), with the component `main`."""
    plain = {suite for suite in entry.suites if "-" not in suite and "/" not in suite}
    known = not _RELEASES.isdisjoint(plain) or "debian-archive" in (entry.source.signed_by or "")
    return (
        "main" in entry.components
        and bool(plain)
        and known
        and not entry.source.uri.startswith("cdrom:")
        and "security" not in entry.source.uri.rstrip("/").rpartition("/")[2]
    )


def _likelihood(entry: Entry) -> int:
    """Other vendors use Debian's suite names too: prefer Debian's own keyring, then its path."""
    keyring = entry.source.signed_by
    trusted = 2 if keyring and "debian-archive" in keyring else 1 if not keyring else 0
    named = entry.source.uri.rstrip("/").rpartition("/")[2] in ("debian", "debian.list")
    return 2 * trusted + named
