-- End a turn: store both its messages and free the lease.
-- KEYS  chat, history, chats
-- ARGV  nonce, index and id of the assistant's message, chat_id, now, deadline_ms ("" = none),
--       user, assistant, prompt_tokens, completion_tokens, when the turn began, then pairs of
--       further chat fields
-- Returns {"stored", revision}; {"settled", message} when the turn has been stored before, by
-- this caller or another; {"gone"} when it was dropped or its chat deleted; or {"late"}.
local chat = redis.call('HMGET', KEYS[1], 'turn', 'created_at', 'prompt_tokens', 'completion_tokens')
if chat[1] ~= ARGV[1] then
  local message = redis.call('LINDEX', KEYS[2], ARGV[2])
  if message and string.find(message, '{"id":"' .. ARGV[3] .. '"', 1, true) == 1 then
    return {'settled', message}
  end
  return {'gone'}
end
if ARGV[6] ~= '' then
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[6]) then
    return {'late'}
  end
end
local revision = redis.call('RPUSH', KEYS[2], ARGV[7], ARGV[8])
redis.call('HSET', KEYS[1], 'turn', '', 'lease', '', 'message_count', revision,
  'created_at', chat[2] or ARGV[11], 'updated_at', ARGV[5],
  'prompt_tokens', (chat[3] or 0) + ARGV[9], 'completion_tokens', (chat[4] or 0) + ARGV[10],
  unpack(ARGV, 12))
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
return {'stored', revision}
