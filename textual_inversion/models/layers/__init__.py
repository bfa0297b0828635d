"""Layers of ppdiffusers' networks, computed faster or in less memory, with the same results.

May import nothing of this library.
"""
