-- End a turn: store both its messages, end its log, free the lease, book what it used.
-- Returns {'stored', now, lines of usage}; {'settled', message, booked} when the turn was stored
-- before, by this caller or another; {'gone', booked} when it was dropped, its chat deleted, or
-- the messages before it lost; or {'late', now}.
--#keys chat history chats once log usage record running sizes everybody?
-- index, message_id: those of the answer. log_ms 0: the turn has no log. ttl_ms 0: never expires.
--#args nonce index message_id chat_id now_ms deadline_ms user answer
-- first_title: for a chat without. replayed: bytes from `start` on ('' = unknown). fields: in turn.
--#args prompt_tokens completion_tokens ttl_ms log_ms ending length rest error first_title
--#args usage_line used_tokens replayed max_stored fields...
--#include clock spent member account stored_message ended expire add_bytes held_bytes growth

-- The nonce is the fencing token. A second commit, of a zombie or of this caller whose first reply
-- was lost, changes nothing and gets what was stored.
local turn, prompt_sum, completion_sum, logs, title, counted, ended_field, booked = unpack(
  redis.call('HMGET', chat, 'turn', 'prompt_tokens', 'completion_tokens', 'logs', 'title',
  'counted', 'ended', 'booked'))
if turn ~= nonce then
  local message = stored_message(history, index, message_id)
  return message and {'settled', message, booked or ''} or {'gone', booked or ''}
end

-- A commit that waited in a frozen Redis comes too late: its client has got an error already.
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end

-- The first write is one that a full Redis refuses: all of it is done, or nothing.
local held, grown = held_bytes(chat, max_stored), growth(chat, fields, max_stored)
local revision = redis.call('RPUSH', history, user, answer)
local ended, keys = add_ended(ended_field, nonce, now),
  {usage = usage, record = record, running = running, everybody = everybody}
if revision ~= index + 1 then -- the messages before it are lost: the next turn begins a new chat
  redis.call('LTRIM', history, 0, -3)
  redis.call('HSET', chat, 'turn', '', 'said', '', 'ended', ended)
  add_bytes(sizes, chat_id, -held, max_stored)
  account(keys, counted, chat_id, nonce, usage_line, tonumber(used_tokens), now)
  return {'gone', ''}
end

local live_logs = '' -- the logs that have not expired yet: a deletion of the chat must name them
for log_nonce, expiry in string.gmatch(logs or '', '(%x+)@(%d+)') do
  if tonumber(expiry) > now then live_logs = live_logs .. log_nonce .. '@' .. expiry .. ' ' end
end
if log_ms ~= '0' then
  -- The highest id of a log: no entry can follow, so that exactly one ending wins.
  redis.pcall('XADD', log, '9007199254740991-0', 'e', ending, 'n', length, 'x', rest, 'f', error)
  redis.call('PEXPIRE', log, log_ms)
  live_logs = live_logs .. nonce .. '@' .. string.format('%d', now + log_ms)
end
redis.call('HSET', chat, 'turn', '', 'said', '', 'born', '', 'message_count', revision,
  'updated_at', now_ms, 'ended', ended, 'context', used_tokens,
  'prompt_tokens', (prompt_sum or 0) + prompt_tokens,
  'completion_tokens', (completion_sum or 0) + completion_tokens,
  'bytes', replayed ~= '' and string.format('%d %d', revision, replayed + #user + #answer) or '',
  'logs', live_logs, 'title', (title or '') ~= '' and title or first_title, unpack(fields))
redis.call('ZADD', chats, now, chat_id) -- by the clock that pages of the list go by
add_bytes(sizes, chat_id, #user + #answer + grown - held, max_stored)
for _, key in ipairs({chat, history, once}) do expire(key, ttl_ms) end
local lines = account(keys, counted, chat_id, nonce, usage_line, tonumber(used_tokens), now)
return {'stored', now, lines}
