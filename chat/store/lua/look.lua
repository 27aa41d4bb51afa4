-- Read a chat's running turn, and one of its messages.
--#keys chat history
-- index: that of the message; -1: the newest.
--#args index
-- Returns {now, nonce ('' = no turn is running), ms left of its lease, revision, when it began,
-- what was asked, model, forks, message or ''}.
--#include clock
local now = clock()
local turn, lease, count, began, asked, model, forks = unpack(redis.call('HMGET', chat,
  'turn', 'lease', 'message_count', 'began', 'said', 'model', 'forks'))
turn = turn or ''
local message = redis.call('LINDEX', history, index) or ''
return {now, turn, turn == '' and 0 or tonumber(lease) - now, tonumber(count or 0),
  tonumber(began or 0), asked or '', model or '', forks or '', message}
