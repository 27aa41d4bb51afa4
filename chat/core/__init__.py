"""Pure values and codecs: no I/O, no clock, no library but msgspec.

titles.py       what a chat is called before anybody names it
messages.py     messages, chats, requests for turns
turn_ref.py     the ids that tie a turn together
events.py       the events of a turn: started, delta, ended
errors.py       what can go wrong, as facts
credentials.py  owners and user keys
limits.py       rates, budgets, prices
usage.py        what turns used, and what that cost
cursors.py      which part of which turn a client has
branches.py     which messages belong to one branch
outcomes.py     what Redis says when a turn is to begin, and when one looks at a chat
prompt.py       history -> prompt
replay.py       stored messages, and what clients sent, as messages of a prompt
entries.py      stored messages as entries of a conversation
matching.py     what is new in a request that carries the whole conversation
sent.py         such a request, and where it belongs
tool_calls.py   tool calls from the pieces in which they are streamed
answer.py       the state of one answer between model and client
completions.py  codec: what the model API is asked
quirks.py       what a model wants to be asked differently, learned from its refusals
reply.py        codec: the bytes of its reply -> JSON documents, however they are sent
chunks.py       what such a document says
usual_chunks.py, lenient_chunks.py  codecs: a document of the usual shape, or of any other
refusals.py     where servers say that something went wrong, and how to say it
redaction.py    hides keys in errors
speech.py       tells thinking apart from the answer
cut_text.py     text with a limit, and the beginning of an answer whose end is not waited for
lenient_json.py JSON as servers really write it
sse.py          codec: text/event-stream
http1.py        codec: the client's half of HTTP/1.1
otlp.py        codec: spans and metrics, for OpenTelemetry
"""
