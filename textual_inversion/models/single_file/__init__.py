"""Single-file checkpoints of Stable Diffusion, unpacked into the diffusers layout.

May import what models may, and of models only weight_files.
"""
