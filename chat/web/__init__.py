"""HTTP: from a Flask request to a Flask response.

routes.py      which handler answers which path, and what every answer has in common
paths.py       the tree of paths
headers.py     what requests say in their headers
access_log.py  one JSON line per request
refusals.py    what is answered in the place of the server, before there is a request
openapi.py     GET /openapi.json
auth/          who asks
apis/          routes, one file per family
dialects/      the families' shapes on the wire (pure)
live/          answers that take time: streams, the hand-over to the relay, WebSockets
"""
