"""The demo world of the project: drawn toys, the tools that pretrain the demo model on them, and the model itself."""
