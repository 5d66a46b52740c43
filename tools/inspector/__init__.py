"""The inspector: a machine on a terminal, with everything in it alive on the screen."""
