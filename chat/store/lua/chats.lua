-- List chat ids, newest first.    KEYS  chats
-- ARGV  limit, score and id of the last chat the caller has seen ("" = none), ttl_ms (0 = for ever)
-- Returns {id, score, id, score, ...}
if ARGV[4] ~= '0' then -- chats expire by themselves, their places in this list do not
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4])
end
local first = 0
if ARGV[3] ~= '' then
  if redis.call('ZSCORE', KEYS[1], ARGV[3]) == ARGV[2] then
    first = redis.call('ZREVRANK', KEYS[1], ARGV[3]) + 1
  else -- it has moved up since, or is deleted: go on where it was
    first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
