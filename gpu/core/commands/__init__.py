"""What serves each command. All is checked before anything changes."""
