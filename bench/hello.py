"""A function that does nothing: what the host itself costs."""

import flask


def main(request: flask.Request) -> dict[str, str]:
    """Answer a turn's request with some text."""
    request.get_data()
    return {"text": "tok~ " * 8}
