"""What Redis is asked. Keys of Redis are visible here and nowhere else.

store.py       the door: scripts, batches, failures
keyspace.py    every key, its fields, TTL and writer
vault.py       what is said, encrypted at rest
history.py     turns and messages: begin, commit, drop, look, read
chats.py       chats as a whole: make, describe, change, list, delete
users.py       owners: keys, limits, usage
turn_log.py    the log of a streamed turn: written, read, closed
agent_pool.py  agents of all instances, and the instances' inboxes
lua/           one atomic step per file; lua/parts: what some of them share
"""
