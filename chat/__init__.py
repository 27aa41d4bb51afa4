"""A chat backend in one Cloud Function. A module imports only from a lower row, never sideways or up.

    main.py               build the app once per instance, hand it each request
    11 app.py             build(settings) -> app: the only place that constructs clients
       agent.py           a program of its own: dials in to a function, answers with a model of yours
    10 web/               HTTP: routes, who may ask, errors -> responses, the log; a file per family
    9  owners.py          an owner as a whole: usage, export, erasure
    8  turns.py           begin, resume and stop turns: the whole story
    7  reader.py          follow a turn from any place, on any instance
    6  models.py          who answers a turn, and what it is asked
       recovery.py        end a turn from outside: stop it, or settle a dead one
    5  titles.py          ask the model for a chat's title
       agents/            machines that dial in and answer: the pool, their lines, a call of one
       run.py             drive one turn from the model to its client and into Redis
    4  history.py         what Redis is asked about turns and messages
       chats.py           what Redis is asked about chats as a whole
       users.py           what Redis is asked about owners: keys, limits, usage
       idtokens.py        ID tokens of a sign-in service, and App Check
       streams.py         the log of a turn: how it is written, read, and closed
       upstream.py        the model API: connections, retries, errors
    3  store.py           the door to Redis: scripts, batches, failures
       vault.py           what is said, encrypted at rest
    2  turn.py            a turn's state between model and client       (pure, like the whole row)
       context.py         history -> prompt
       branches.py        which messages belong to one branch
       outcomes.py        what Redis says when a turn is to begin
       usage.py           what turns used, and what that cost
       dialects/          one file per HTTP API: its shapes on the wire
    1  messages.py events.py errors.py credentials.py limits.py         values and names
       keyspace.py settings.py
       sse.py http1.py completions.py                                   codecs
       shutdown.py        SIGTERM
       relay.py           one thread that carries all streams, sockets to sockets
       deferred.py        put off an import that a library makes for us
    lua/*.lua             one atomic step in Redis per file; lua/parts: what some of them share

Reading order: main.py, app.py, web/, turns.py, then whatever made you curious.
"""
