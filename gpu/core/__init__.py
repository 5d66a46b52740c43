"""The virtual GPU behind every front end. It checks, orders and accounts; workers compute."""

from gpu.core.context import Context
from gpu.core.gpu import Gpu

__all__ = ["Context", "Gpu"]
