-- End a turn that leaves nothing behind. A chat that only this turn would have made vanishes.
-- KEYS  chat, log
-- ARGV  nonce, idempotency field, ttl_ms of the log (0 = it has none), error; "" = no log at all
if redis.call('HGET', KEYS[1], 'turn') ~= ARGV[1] then
  return
end
redis.call('HDEL', KEYS[1], 'turn', 'lease', 'began', 'said', ARGV[2])
if ARGV[4] == '' then
  redis.call('DEL', KEYS[2])
elseif ARGV[3] ~= '0' then
  redis.call('XADD', KEYS[2], '9007199254740991-0', 'e', 'failed', 'n', 0, 'x', '', 'f', ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
