"""A training run: its loss and optimizer, its state, checkpoints and resuming, what is measured, drawn and written.

May import every package below it: `sharing`, `distributed`, `evaluation`, `generation`, `data`, `models` and so on.
"""
