"""Process and sockets; knows no chat.

intake.py          a request reaches the server's threads when it has come whole
lingering.py       closes connections without waiting for their clients
request_buffer.py  where one request ends in the bytes that come (pure)
flow.py            work that never blocks, and the loop that drives one flow in one thread
relay.py           one thread that drives many flows, each to its client's socket
source.py          what the relay drives: a flow and its client
sockets.py         waiting for a socket, and being woken up
gate.py            how much large work is done at once; memory that is given back
shutdown.py        SIGTERM
"""
