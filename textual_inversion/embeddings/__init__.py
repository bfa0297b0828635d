"""Learned embeddings on disk: where to find them, and what is recorded about them.

May import system, formats, settings and hub.
"""
