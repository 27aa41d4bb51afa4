"""Answers that take time.

answer.py        begin a turn or follow one, and choose who gives the answer
response.py      the answer to one request while its turn goes on             (a flow)
large.py         answers that a client takes a while to read             (a flow)
handover.py      take the client's socket out of the server's hands
agent_socket.py  an agent's socket, from the handshake to its end              (a flow)
websocket.py     messages on a WebSocket, and the bytes that carry them
"""
