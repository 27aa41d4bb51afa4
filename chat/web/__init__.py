"""HTTP: from a Flask request to a Flask response.

routes.py      routing, and what all responses have in common
paths.py       the tree of paths
headers.py     what requests say in their headers
access_log.py  one JSON line per request
telemetry.py   traces and metrics to a collector, if one is named
metrics.py     what is counted for it
refusals.py    what is answered in the place of the server, before there is a request
openapi.py     GET /openapi.json
auth/          authentication: keys and tokens
apis/          routes and handlers, one file per family
dialects/      requests, answers and events of each family as JSON (pure)
live/          answers that take time: streams, the hand-over to the relay, WebSockets
"""
