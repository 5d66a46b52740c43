"""GDB's remote serial protocol (GDB manual, appendix E): debug what runs in a machine."""
