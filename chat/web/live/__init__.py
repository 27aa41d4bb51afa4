"""Answers that take time.

talk.py          begin a turn or follow one, and choose who gives the answer
answer.py        one answer over HTTP while its turn goes on, in any dialect   (a flow)
handover.py      take the client's socket out of the server's hands
agent_socket.py  an agent's socket, from the handshake to its end              (a flow)
websocket.py     messages on a WebSocket, and the bytes that carry them
"""
