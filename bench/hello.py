"""A function that does nothing: the cost of the host alone."""

import flask


def main(request: flask.Request) -> dict[str, str]:
    """Answer a turn's request with some text."""
    request.get_data()
    return {"text": "tok~ " * 8}
