-- Read a chat's running turn, and one turn of its history.
--#keys chat history
-- index: that of the answer; -1: the newest.
--#args index
-- Returns {now, nonce ('' = no turn is running), ms left of its lease, revision, when it began,
-- what was asked, model, forks, mark, nonce of the newest turn in the history, messages}.
--#include clock
local now = clock()
local turn, lease, count, began, asked, model, forks, mark, last = unpack(redis.call('HMGET', chat,
  'turn', 'lease', 'message_count', 'began', 'said', 'model', 'forks', 'mark', 'last'))
turn = turn or ''
return {now, turn, turn == '' and 0 or tonumber(lease) - now, tonumber(count or 0),
  tonumber(began or 0), asked or '', model or '', forks or '', mark or '', last or '',
  redis.call('LRANGE', history, index - 1, index)}
