"""Reaching model hubs: what is cached on this machine, downloads, and errors in one phrase.

May import system and settings alone; which files of a repository are wanted is for embeddings/ and models/ to say.
"""
