"""What any program needs: errors, atomic writes, signals, progress, the environment, paths, provenance.

Imports no other package of this library; every other package may import this one.
"""
