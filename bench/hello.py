"""A function that does nothing: what the host itself costs."""

import flask


def main(request: flask.Request) -> dict[str, str]:
    request.get_data()
    return {"text": "tok~ " * 8}
