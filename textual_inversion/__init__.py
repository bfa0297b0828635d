"""Textual Inversion for Stable Diffusion on PaddlePaddle: the library under this repository's commands."""
