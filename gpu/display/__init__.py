"""What a GPU shows, and who looks at it."""
