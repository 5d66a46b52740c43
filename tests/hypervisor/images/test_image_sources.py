"""Which of a host's apt sources is the main Debian archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.images.errors import NoPackageSource
from hypervisor.images.sources import Source, debian_archives, default_files

DEB822 = """\
# The distribution
Types: deb
# a comment inside of a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_deb822_main_archive_is_found_with_its_keyring(tmp_path: Path) -> None:
    file = written(tmp_path, "debian.sources", DEB822)
    found = debian_archives([file])
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert found == [Source("http://mirror.example/debian", keyring)]


def test_one_line_main_archive_is_found_with_its_keyring(tmp_path: Path) -> None:
    text = (
        "deb-src http://src.example/debian bookworm main\n"
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # main one\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
    )
    found = debian_archives([written(tmp_path, "sources.list", text)])
    assert found == [Source("http://mirror.example/debian", "/k.gpg")]


def test_third_party_with_a_debian_suite_comes_after_debian(tmp_path: Path) -> None:
    other = "deb [signed-by=/k/vendor.gpg] http://vendor.example/apt bookworm main\n"
    files = [
        written(tmp_path, "vendor.list", other),
        written(tmp_path, "debian.sources", DEB822),
    ]
    assert [source.uri for source in debian_archives(files)] == ["http://mirror.example/debian"]


def test_disabled_stanza_is_skipped(tmp_path: Path) -> None:
    file = written(tmp_path, "debian.sources", f"Enabled: no\n{DEB822}")
    with pytest.raises(NoPackageSource, match="no main Debian archive"):
        debian_archives([file])


@pytest.mark.parametrize(
    "line",
    [
        "deb cdrom:[Debian]/ bookworm main",
        "deb http://vendor.example/apt bookworm-pgdg main",
        "deb http://vendor.example/debian bookworm stable",
        "deb http://vendor.example/apt ./",
        "deb",
        "nonsense",
    ],
)
def test_other_sources_are_not_taken(tmp_path: Path, line: str) -> None:
    file = written(tmp_path, "sources.list", f"{line}\n")
    with pytest.raises(NoPackageSource):
        debian_archives([file])


def test_keys_inside_a_stanza_are_carried_over(tmp_path: Path) -> None:
    key = (
        "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"
    )
    text = "Types: deb\nURIs: http://a.example/debian\nSuites: sid\nComponents: main\n"
    text += f"Signed-By:{key}\n"
    (source,) = debian_archives([written(tmp_path, "debian.sources", text)])
    assert source.stanza("forky", "riscv64").endswith(f"Signed-By: {key}\n")


def test_stanza_names_suite_and_architecture_and_only_indices() -> None:
    stanza = Source("http://a.example/debian", None).stanza("forky", "riscv64")
    assert stanza.splitlines() == [
        "Types: deb",
        "URIs: http://a.example/debian",
        "Suites: forky",
        "Components: main",
        "Architectures: riscv64",
        "Targets: Packages",
    ]


def test_host_files_are_found_as_apt_finds_them(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    written(tmp_path, "sources.list", "")
    for name in ("b.sources", "a.list", "c.list.save"):
        written(parts, name, "")
    names = [file.name for file in default_files(tmp_path)]
    assert names == ["sources.list", "a.list", "b.sources"]
