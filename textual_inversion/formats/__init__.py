"""Files of embeddings and weights, read and written without Paddle or PyTorch; all are treated as a stranger's.

Imports `system` only.
"""
