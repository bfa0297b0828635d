"""The frozen base model: its text encoders, tokenizers, U-Net, VAE and schedulers, and embedding vectors beside them.

May import system, settings, formats, hub and embeddings.
"""
