"""The monitor: a machine looked into and steered while it runs, by text or by QMP."""
