"""A chat backend in one Cloud Function. A module imports only from a lower row, never sideways or up.

    main.py               build the app once per instance, hand it each request
    10 app.py             build(settings) -> app: the only place that constructs clients
    9  web/               HTTP: routes, headers, errors -> responses, CORS; one file per dialect
    8  turns.py           begin, resume and stop turns: the whole story
    7  reader.py          follow a turn from any place, on any instance
    6  recovery.py        end a turn from outside: stop it, or settle a dead one
    5  titles.py          ask the model for a chat's title
       run.py             drive one turn from the model to its client and into Redis
    4  history.py         what Redis is asked about chats
       streams.py         the log of a turn: how it is written, read, and closed
       upstream.py        the model API: connections, retries, errors
    3  store.py           the door to Redis: scripts, batches, failures
    2  turn.py            a turn's state between model and client       (pure, like the whole row)
       context.py         history -> prompt
       branches.py        which messages belong to one branch
       dialects/          one file per HTTP API: its shapes on the wire
    1  messages.py events.py errors.py keyspace.py settings.py          values and names
       sse.py http1.py completions.py                                   codecs
       shutdown.py        SIGTERM
    lua/*.lua             one atomic step in Redis per file

Reading order: main.py, app.py, web/, turns.py, then whatever made you curious.
"""
