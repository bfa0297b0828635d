"""Learned embeddings as they lie on disk: where to find them, and what is recorded about them.

May import system, settings, formats and hub.
"""
