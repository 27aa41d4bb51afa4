-- End a turn: store both its messages, end its log, free the lease, book what it used.
-- Returns {'stored', now, lines of usage}; {'settled', message} when the turn was stored before, by
-- this caller or another; {'gone'} when it was dropped or its chat deleted; or {'late', now}.
--#keys chat history chats log usage record sizes everybody?
-- index, message_id: those of the answer. deadline_ms '': none. log_ms 0: the turn has no log.
--#args nonce index message_id chat_id began_ms now_ms deadline_ms user answer
-- replayed: bytes of the messages from `start` on ('' = unknown). first_title: if it has none.
-- ttl_ms 0: never expires. fields: others, in turn.
--#args prompt_tokens completion_tokens ttl_ms log_ms ending length rest error first_title
--#args usage_line used_tokens replayed max_stored fields...
--#include clock spent account stored_message expire add_bytes held_bytes growth

-- The nonce is the fencing token. A second commit, of a zombie or of this caller whose first reply
-- was lost, changes nothing and gets what was stored.
local turn, created_at, prompt_sum, completion_sum, logs, title, counted = unpack(redis.call(
  'HMGET', chat, 'turn', 'created_at', 'prompt_tokens', 'completion_tokens', 'logs', 'title',
  'counted'))
if turn ~= nonce then
  local message = stored_message(history, index, message_id)
  return message and {'settled', message} or {'gone'}
end

-- A commit that waited in a frozen Redis comes too late: its client has got an error already.
local now = clock()
if deadline_ms ~= '' and now > tonumber(deadline_ms) then return {'late', now} end

local live_logs = '' -- the logs that have not expired yet: a deletion of the chat must name them
for log_nonce, expiry in string.gmatch(logs or '', '(%x+)@(%d+)') do
  if tonumber(expiry) > now then live_logs = live_logs .. log_nonce .. '@' .. expiry .. ' ' end
end
if log_ms ~= '0' then
  -- The highest id of a log: no entry can follow, so that exactly one ending wins.
  redis.call('XADD', log, '9007199254740991-0', 'e', ending, 'n', length, 'x', rest, 'f', error)
  redis.call('PEXPIRE', log, log_ms)
  live_logs = live_logs .. nonce .. '@' .. string.format('%d', now + log_ms)
end

local bytes = #user + #answer + growth(chat, fields, max_stored) - held_bytes(chat, max_stored)
local revision = redis.call('RPUSH', history, user, answer)
redis.call('HSET', chat, 'turn', '', 'said', '', 'message_count', revision,
  'created_at', created_at or began_ms, 'updated_at', now_ms,
  'prompt_tokens', (prompt_sum or 0) + prompt_tokens,
  'completion_tokens', (completion_sum or 0) + completion_tokens,
  'bytes', replayed ~= '' and string.format('%d %d', revision, replayed + #user + #answer) or '',
  'logs', live_logs, 'title', (title or '') ~= '' and title or first_title, unpack(fields))
redis.call('ZADD', chats, now, chat_id) -- by the clock that pages of the list go by
add_bytes(sizes, chat_id, bytes, max_stored)
expire(chat, ttl_ms)
expire(history, ttl_ms)

local keys = {usage = usage, record = record, everybody = everybody}
return {'stored', now, account(keys, counted, nonce, usage_line, tonumber(used_tokens), now)}
