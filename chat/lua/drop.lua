-- End a turn that leaves nothing behind. A chat that only this turn would have made vanishes.
-- KEYS  chat    ARGV  nonce
if redis.call('HGET', KEYS[1], 'turn') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'turn', 'lease')
end
