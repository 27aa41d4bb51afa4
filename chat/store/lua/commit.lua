-- End a turn: store both its messages, end its log, free the lease, book what it used.
-- KEYS  chat, history, chats, log, usage, the owner's record, everybody (only with a budget of all)
-- ARGV  nonce, place and id of the assistant's message, chat_id, when it began, now, deadline_ms
--       ("" = none), user, assistant, prompt_tokens, completion_tokens, ttl_ms of the chat (0 = for
--       ever), ttl_ms of the log (0 = it has none), ending, length, rest of the text, error, title
--       for a chat that never had one, line of usage, its tokens, then pairs of further chat fields
-- Returns {"stored", now, lines of usage}; {"settled", message} when the turn has been stored before,
-- by this caller or another; {"gone"} when it was dropped or its chat deleted; or {"late", now}.
--#include clock spent account
local chat = redis.call('HMGET', KEYS[1], 'turn', 'created_at', 'prompt_tokens', 'completion_tokens', 'logs', 'title', 'counted')
if chat[1] ~= ARGV[1] then
  local message = redis.call('LINDEX', KEYS[2], ARGV[2])
  if message and string.find(message, '{"id":"' .. ARGV[3] .. '"', 1, true) == 1 then return {'settled', message} end
  return {'gone'}
end
local now = clock()
if ARGV[7] ~= '' and now > tonumber(ARGV[7]) then return {'late', now} end
local logs = '' -- those that have not expired yet, for whoever deletes the chat
for nonce, expiry in string.gmatch(chat[5] or '', '(%x+)@(%d+)') do
  if tonumber(expiry) > now then logs = logs .. nonce .. '@' .. expiry .. ' ' end
end
if ARGV[13] ~= '0' then
  redis.call('XADD', KEYS[4], '9007199254740991-0', 'e', ARGV[14], 'n', ARGV[15], 'x', ARGV[16], 'f', ARGV[17])
  redis.call('PEXPIRE', KEYS[4], ARGV[13])
  logs = logs .. ARGV[1] .. '@' .. string.format('%d', now + ARGV[13])
end
local revision = redis.call('RPUSH', KEYS[2], ARGV[8], ARGV[9])
redis.call('HSET', KEYS[1], 'turn', '', 'said', '', 'message_count', revision, 'created_at', chat[2] or ARGV[5],
  'updated_at', ARGV[6], 'prompt_tokens', (chat[3] or 0) + ARGV[10], 'completion_tokens',
  (chat[4] or 0) + ARGV[11], 'logs', logs, 'title', chat[6] or ARGV[18], unpack(ARGV, 21))
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[4])
if ARGV[12] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[12])
  redis.call('PEXPIRE', KEYS[2], ARGV[12])
end
local keys = {usage = KEYS[5], record = KEYS[6], everybody = KEYS[7]}
return {'stored', now, account(keys, chat[7], ARGV[1], ARGV[19], tonumber(ARGV[20]), now)}
