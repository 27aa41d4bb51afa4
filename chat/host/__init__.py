"""Process and sockets; knows no chat.

intake.py          a request reaches the server's threads when it has come whole
request_buffer.py  where one request ends in the bytes that come (pure)
relay.py           one thread that carries all streams, sockets to sockets
sockets.py         waiting for a socket
shutdown.py        SIGTERM
"""
