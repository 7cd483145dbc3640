EXAMPLES = ("stepzero plan x",)


def plan() -> None:
    """x."""
