-- End a turn that leaves nothing behind. A chat that only this turn would have made vanishes.
-- KEYS  chat, history, log
-- ARGV  nonce, place and id of the assistant's message, idempotency field, ttl_ms of the log (0 = it
--       has none), error; "" = no log at all
-- Returns the message, when somebody else has ended the turn before and stored it.
if redis.call('HGET', KEYS[1], 'turn') ~= ARGV[1] then
  local message = redis.call('LINDEX', KEYS[2], ARGV[2])
  if message and string.find(message, '{"id":"' .. ARGV[3] .. '"', 1, true) == 1 then
    return message
  end
  return false
end
redis.call('HDEL', KEYS[1], 'turn', 'lease', 'began', 'said', ARGV[4])
if ARGV[6] == '' then
  redis.call('DEL', KEYS[3])
elseif ARGV[5] ~= '0' then
  redis.call('XADD', KEYS[3], '9007199254740991-0', 'e', 'failed', 'n', 0, 'x', '', 'f', ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
return false
