"""What others get of a run: a model card, copies without private paths, the upload to a hub.

May import every package above it in the order of packages, down to distributed; not training, cli or a command.
"""
