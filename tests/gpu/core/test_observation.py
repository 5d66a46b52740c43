"""What a watcher is told of commands."""

from __future__ import annotations

from gpu.core.objects import Kernel
from gpu.core.observation import label_of
from gpu.core.work import Work
from gpu.host.result import KernelDescription


def test_label_of_a_kernel_is_not_as_long_as_its_name_may_be() -> None:
    described = KernelDescription("k" * 512, 0, (), (0, 0, 0), 0, 1, 0, 0, "")
    work = Work(None, ("range",), objects=[Kernel(1, description=described)])
    work.arguments = ()

    assert label_of(work) == "k" * 128
