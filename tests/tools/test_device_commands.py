"""`hypervisor device test`."""

OWN = '''
from hypervisor.device import Device, Options, Register

class Lamp(Device):
    """A lamp."""
    summary = "A lamp"
    ON = Register(0x0, writable=1)

class Broken(Lamp):
    """A lamp that stays on."""
    def reset(self):
        super().reset()
        self.ON = 1

class Crashing(Lamp):
    """A lamp that breaks."""
    OFF = Register(0x4)
    @OFF.on_read
    def crash(self):
        raise RuntimeError("no bulb")

class Needy(Lamp):
    """A lamp with a size."""
    class Options(Options):
        watts: int
'''


def test_own_model_passes(folder, command):
    (folder / "own.py").write_text(OWN)

    result = command("device", "test", "./own.py:Lamp")

    assert result.code == 0
    assert result.out.endswith("./own.py:Lamp: 12 of 12 checks passed\n")


def test_fault_is_named_and_the_exit_code_is_1(folder, command):
    (folder / "own.py").write_text(OWN)

    result = command("device", "test", "./own.py:Broken")

    assert result.code == 1
    assert "no  reset values are the tables: it does not hold the table's value" in result.out
    assert result.out.endswith("11 of 12 checks passed\n")


def test_model_that_raises_is_named(folder, command):
    (folder / "own.py").write_text(OWN)

    result = command("device", "test", "./own.py:Crashing")

    assert result.code == 1
    assert "it raised RuntimeError: no bulb" in result.out


def test_options_are_given(folder, command):
    (folder / "disk.img").write_bytes(bytes(4096))

    result = command(
        "device", "test", "virtio.blk", "--set", "file=disk.img", "--set", "overlay=discard"
    )

    assert result.code == 0


def test_missing_option_is_a_sentence(folder, command):
    (folder / "own.py").write_text(OWN)

    missing = command("device", "test", "./own.py:Needy")
    garbled = command("device", "test", "./own.py:Needy", "--set", "watts")

    assert missing.code == garbled.code == 2
    assert "watts: Field required" in missing.err
    assert "'watts' is not OPTION=VALUE" in garbled.err


def test_unknown_type_is_a_sentence(folder, command):
    result = command("device", "test", "ns16550")

    assert result.code == 2
    assert "did you mean 'ns16550a'?" in result.err
