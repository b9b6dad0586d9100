"""Public benchmarks: their files as published, the published prompts of each method style, and their metrics."""
