"""Routes, one file per family; each class has a table of routes and the handlers they lead to.

native.py         Chatkeep's own API
conversations.py  /conversations
ask.py            /ask
completion.py     /conversation
openai/           /v1
agents.py         /client/register, /api/ask and /api/connections
account.py        /me
admin.py          /admin
base.py           what the families over chats share
"""
