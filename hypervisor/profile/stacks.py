"""Stacks for other tools: folded text (flame graphs), and speedscope's JSON.

Folded: a line for each stack, functions from the outermost on joined by `;`, and its weight.
Speedscope: its file format, https://www.speedscope.app/file-format-schema.json, "sampled" profiles.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

from hypervisor.profile.profile import Profile
from hypervisor.profile.sampler import Sample

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def folded(profile: Profile) -> str:
    """One line for each stack; weights are samples."""
    harts = len(profile.machine.cpu)
    lines: Counter[str] = Counter()
    for sample, weight in profile.sampler.samples.items():
        names = [name.replace(";", ",").replace(" ", "_") for name in _outermost(profile, sample)]
        lines[";".join([f"hart{sample.hart}", *names] if harts > 1 else names)] += weight
    return "".join(f"{stack} {weight}\n" for stack, weight in sorted(lines.items()))


def speedscope(profile: Profile) -> dict[str, Any]:
    """A profile for each hart, in the order of time; weights are ns of executed code."""
    frames: dict[str, int] = {}
    profiles = []
    for hart in range(len(profile.machine.cpu)):
        samples: list[list[int]] = []
        weights: list[int] = []
        for _, sample, weight in profile.sampler.order:
            if sample.hart == hart:
                names = _outermost(profile, sample)
                samples.append([frames.setdefault(name, len(frames)) for name in names])
                weights.append(weight * profile.sampler.period)
        profiles.append(
            {
                "type": "sampled",
                "name": f"hart {hart}",
                "unit": "nanoseconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        )
    return {
        "$schema": SCHEMA,
        "name": profile.machine.description.machine,
        "exporter": f"hypervisor {version('hypervisor')}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
    }


def _outermost(profile: Profile, sample: Sample) -> list[str]:
    return profile.names(sample)[::-1]
