"""Data sets: readers of on-disk layouts, the rendered faces, and the streaming data module."""
