"""Hydra's launcher ``local``: rows of a sweep side by side on one machine."""
