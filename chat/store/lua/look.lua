-- Read a chat's running turn, one of its messages, and the one before that.
--#keys chat history
-- index: that of an answer; -1: the newest.
--#args index
-- Returns {now, nonce ('' = no turn is running), ms left of its lease, revision, when it began,
-- what was asked, model, forks, mark, nonce of the turn that ended last, both messages}.
--#include clock
local now = clock()
local turn, lease, count, began, asked, model, forks, mark, ended = unpack(redis.call('HMGET', chat,
  'turn', 'lease', 'message_count', 'began', 'said', 'model', 'forks', 'mark', 'ended'))
turn = turn or ''
return {now, turn, turn == '' and 0 or tonumber(lease) - now, tonumber(count or 0),
  tonumber(began or 0), asked or '', model or '', forks or '', mark or '',
  string.match(ended or '', '(%x+)@%d+$') or '',
  redis.call('LRANGE', history, index - 1, index)}
