EXAMPLES = ("stepzero check x",)


def check() -> None:
    """x."""
