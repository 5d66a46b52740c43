"""Traces: a machine's events, chosen by a filter, as text, for Perfetto, or in a file of our own
that can be shown, filtered, compared and queried."""

from hypervisor.trace.file import TraceError, TraceReader, TraceWriter
from hypervisor.trace.filter import Filter, FilterError
from hypervisor.trace.tracer import Tracer, sink_for

__all__ = [
    "Filter",
    "FilterError",
    "TraceError",
    "TraceReader",
    "TraceWriter",
    "Tracer",
    "sink_for",
]
