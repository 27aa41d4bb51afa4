"""Routes, one file per family; each ends in handlers that take the request and the parts of its path.

native.py     the product's own API
borrowed.py   the other systems' APIs over the same chats
account.py    /me
admin.py      /admin
agents.py     where agents dial in
"""
