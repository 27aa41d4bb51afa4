"""Process and sockets; knows no chat.

relay.py      one thread that carries all streams, sockets to sockets
sockets.py    waiting for a socket
shutdown.py   SIGTERM
"""
