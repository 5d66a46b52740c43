"""The numbers that both sides must know."""

VERSION = 1
"""Grows when bytes that an older guest sends or reads mean something else."""
CAPSET = 30
"""The id of our capability set on virtio-gpu."""
FLAG_ANSWER = 1
MAX_STREAM = 4 << 20
"""Bytes of one submission."""
MAX_COMMANDS = 1 << 16
"""Packets of one submission."""
MAX_OBJECTS = 1 << 20
"""Objects of one context."""
MAX_ANSWER = 1 << 20
"""Bytes of one answer."""
MAX_INLINE = 1 << 16
"""Bytes that a write carries in its packet."""
RINGS = 64
"""Timelines of a context."""
