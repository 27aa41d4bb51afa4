"""GET /openapi.json, generated from the table of routes, so that it cannot differ from it."""

import re
from typing import Any

import msgspec
from flask import Request, Response

from chat.settings import VERSION
from chat.web.routes import JSON, Route, json_response

_TEXT = {"type": "string"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "oneOf": [
                _TEXT,
                {
                    "type": "object",
                    "required": ["message", "type", "param", "code"],
                    "properties": {
                        "message": _TEXT,
                        "type": _TEXT,
                        "param": {"type": ["string", "null"]},
                        "code": _TEXT,
                    },
                },
            ]
        }
    },
}


class OpenApi:
    """The document, encoded once."""

    def __init__(self, routes: list[Route]) -> None:
        own = Route("GET", "/openapi.json", self.get, access="anyone")
        self.routes = [*routes, own]
        self._document = msgspec.json.encode(_document(self.routes))

    def get(self, request: Request) -> Response:
        """Describe this API as an OpenAPI 3.1 document."""
        return json_response(self._document)


def _document(routes: list[Route]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chatkeep", "version": VERSION},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def path_of(route: Route) -> str:
    """A route's path in OpenAPI's notation: `/{chat_id}/chat`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path)


def _operation(route: Route) -> dict[str, Any]:
    error = {"description": "An error", "content": _json({"$ref": "#/components/schemas/Error"})}
    operation: dict[str, Any] = {
        "summary": (route.handler.__doc__ or "").strip(),
        "responses": {str(route.status): {"description": "Success"}, "default": error},
    }
    names = re.findall(r"{(\w+)}", path_of(route))
    path = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names]
    query = [{"name": n, "in": "query", "schema": _TEXT} for n in route.query]
    if path or query:
        operation["parameters"] = [*path, *query]
    if route.body:
        schema = {"type": "object", "properties": dict(route.body)}
        operation["requestBody"] = {"content": _json(schema)}
    return operation


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": schema}}
