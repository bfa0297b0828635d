"""Images of prompts: their noise, their files, sheets of them, and prompts to make them of.

May import system, settings, formats, hub, embeddings, models and data.
"""
