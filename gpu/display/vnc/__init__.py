"""A VNC server: the machine's display, keyboard and pointer over the network (RFC 6143)."""

from gpu.display.vnc.server import VncServer

__all__ = ["VncServer"]
