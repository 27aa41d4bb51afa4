"""A chat backend in one Cloud Function. A module imports only from a lower row, never sideways or up.

    main.py               build the app once per instance, hand it each request
    7  app.py             build(settings) -> app: the only place that constructs clients
    6  web/               HTTP: routes, errors -> responses, CORS; one file per dialect's routes
    5  turns.py           begin, run and end a turn: the whole story
    4  history.py         what Redis is asked about chats
       upstream.py        the model API: connections, retries, errors
    3  store.py           the door to Redis: scripts and failures
    2  turn.py            a turn's state between model and client       (pure, like the whole row)
       context.py         history -> prompt
       dialects/          one file per HTTP API: its shapes on the wire
    1  messages.py events.py errors.py keyspace.py settings.py          values and names
       sse.py http1.py completions.py                                   codecs
    lua/*.lua             one atomic step in Redis per file

Reading order: main.py, app.py, web/, turns.py, then whatever made you curious.
"""
