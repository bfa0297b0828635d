"""Sharing a run with others: a model card, copies without private paths, the upload to a hub.

May import every package but training, cli, commands and api.
"""
