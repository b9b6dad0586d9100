"""Stages, optimizer, loop, checkpoints."""
