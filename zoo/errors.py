"""The one exception that users see: bad input, said in a line that names the culprit and the fix."""


class ZooError(ValueError):
    """Bad input. The command line prints its text without a traceback and exits with 2."""


def nearest(name: str, known: "list[str] | tuple[str, ...] | set[str]") -> str:
    """A hint for an unknown name: ``" Did you mean 'x'?"`` or the list of what there is."""
    import difflib

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if matches:
        return f" Did you mean {matches[0]!r}?"
    return f" Known: {', '.join(sorted(known))}."
