"""The OpenAI API: requests, answers and events as its clients know them. Pure.

parameters.py   the table of parameters: what may be passed on, and at what price
errors.py       our errors, as clients of OpenAI act upon them
chat.py         Chat Completions
responses.py    the Responses API
response_events.py  its stream of events
items.py        items of the Responses API <-> entries of a conversation
"""
