-- Keep a running turn's lease. Returns 1, or 0 when the turn is not the chat's any more.
-- KEYS  chat    ARGV  nonce, until_ms
if redis.call('HGET', KEYS[1], 'turn') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'lease', ARGV[2])
return 1
