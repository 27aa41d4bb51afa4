"""A chat backend in one Cloud Function. A package imports only from those below it.

    app.py        build(settings) -> app: the only place that constructs clients
    web/          HTTP: who asks, what, and how it is answered
    turns/        a turn from begin to end
    models/       who answers: the model API, or agents that dial in
    store/        what Redis is asked
    settings/     every setting, once
    core/         pure values and codecs
    host/         process and sockets; knows no chat

Reading order: main.py, app.py, web/, turns/, store/, then whatever made you curious.
"""
