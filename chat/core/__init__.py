"""Pure values and codecs: no I/O, no clock, no library but msgspec.

messages.py     messages, chats, and the ids that tie a turn together
events.py       the events of a turn: started, delta, ended
errors.py       what can go wrong, as facts
credentials.py  owners and user keys
limits.py       rates, budgets, prices
usage.py        what turns used, and what that cost
branches.py     which messages belong to one branch
outcomes.py     what Redis says when a turn is to begin, and when one looks at a chat
prompt.py       history -> prompt
answer.py       the state of one answer between model and client
completions.py  codec: the model API's JSON
sse.py          codec: text/event-stream
http1.py        codec: the client's half of HTTP/1.1
otlp.py        codec: spans and metrics, for OpenTelemetry
"""
