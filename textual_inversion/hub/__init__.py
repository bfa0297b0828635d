"""Access to model hubs: what is cached on this machine, downloads, and errors in one phrase.

May import system, formats and settings. Which files of a repository are needed is decided in embeddings and models.
"""
