"""Generated images: their prompts, their noise, their files, and sheets of them.

May import system, settings, formats, hub, embeddings, models and data.
"""
