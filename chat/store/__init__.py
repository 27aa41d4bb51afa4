"""What Redis is asked. Keys of Redis are visible here and nowhere else.

store.py            the only way in: runs scripts, and batches of commands
failures.py         what went wrong in Redis, as StoreUnavailable
stream_read.py      a read of a stream that waits in Redis and blocks nobody here
scripts.py          the scripts of lua/: their headers, and calls checked against them
lua/                one atomic step per file; lua/parts: what several of them share
health.py           whether Redis takes writes, and keeps them
keyspace.py         every key, its fields, TTL and writers
vault.py            encryption at rest of what is said
redis_clock.py      the time in Redis, and deadlines of commands
history.py          turns: begin, commit, drop
begin_reply.py      the outcomes of begin
queue.py            the messages that wait for a chat, in order
begin_reply.py      what begin.lua answers
history_reader.py   messages: the running turn, pages, branches
history_edits.py    changes of what is kept, beside the begin and the end of turns
turn_log.py         the log of a streamed turn: its entries, reading, stopping
turn_log_writer.py  the thread that writes the logs and keeps leases
take_backs.py       turns that must leave nothing, dropped until Redis has answered
chats.py            chats as a whole: create, describe, change, list, delete
list_page.py        pages of lists: of an owner's chats, of owners
users.py            owners: keys, limits, usage
agent_pool.py       agents of all instances, and the instances' inboxes
"""
