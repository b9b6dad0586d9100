"""Samples, media, templates, sources and collation."""
