EXAMPLES = ("stepzero init x",)


def init() -> None:
    """x."""
