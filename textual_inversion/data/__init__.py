"""Training data: images, masks and prompts, their latents, and the random numbers of every training sample.

May import system, settings, formats, hub, embeddings and models.
"""
