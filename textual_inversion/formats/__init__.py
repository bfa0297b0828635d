"""Files of embeddings and weights, read and written without Paddle or PyTorch. No file is trusted.

Imports `system` only.
"""
