-- End a turn that leaves nothing behind but what it used. A chat that only it would have made vanishes.
-- KEYS  chat, history, log, usage, the owner's record, everybody (only with a budget of all)
-- ARGV  nonce, place and id of the assistant's message, idempotency field, ttl_ms of the log (0 = it
--       has none), error; "" = no log at all, line of usage, its tokens
-- Returns the message, when somebody else has ended the turn before and stored it.
--#include clock spent account
local chat = redis.call('HMGET', KEYS[1], 'turn', 'counted')
if chat[1] ~= ARGV[1] then
  local message = redis.call('LINDEX', KEYS[2], ARGV[2])
  if message and string.find(message, '{"id":"' .. ARGV[3] .. '"', 1, true) == 1 then return message end
  return false
end
redis.call('HDEL', KEYS[1], 'turn', 'lease', 'began', 'said', 'counted', ARGV[4])
if ARGV[6] == '' then
  redis.call('DEL', KEYS[3])
elseif ARGV[5] ~= '0' then
  redis.call('XADD', KEYS[3], '9007199254740991-0', 'e', 'failed', 'n', 0, 'x', '', 'f', ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
local keys = {usage = KEYS[4], record = KEYS[5], everybody = KEYS[6]}
account(keys, chat[2], ARGV[1], ARGV[7], tonumber(ARGV[8]), clock())
return false
