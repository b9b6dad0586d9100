"""Judges: language models that grade answers by the published prompts; their numbers carry their name."""
