-- List chat ids, newest first.    KEYS  chats
-- ARGV  limit, score and id of the last chat the caller has seen ("" = none)
-- Returns {id, score, id, score, ...}
local first = 0
if ARGV[3] ~= '' then
  if redis.call('ZSCORE', KEYS[1], ARGV[3]) == ARGV[2] then
    first = redis.call('ZREVRANK', KEYS[1], ARGV[3]) + 1
  else -- it has moved up since, or is deleted: go on where it was
    first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
