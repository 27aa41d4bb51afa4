"""Answers that take time.

answer.py        one turn over HTTP, in any dialect
handover.py      an answer given by the relay instead of the server
agent_socket.py  an agent's socket, from the handshake to its end
websocket.py     messages on a WebSocket, and the bytes that carry them
"""
