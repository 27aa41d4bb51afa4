-- List chat ids, newest first.
--#keys chats
-- last_score, last_id: of the last chat the caller has seen ('' = none). ttl_ms 0: never expire.
--#args limit last_score last_id ttl_ms
-- Returns {id, score, id, score, ...}.
--#include clock
if ttl_ms ~= '0' then -- a chat expires by itself, its entry in this list does not
  redis.call('ZREMRANGEBYSCORE', chats, '-inf', clock() - ttl_ms)
end

local first = 0
if last_id ~= '' then
  if redis.call('ZSCORE', chats, last_id) == last_score then
    first = redis.call('ZREVRANK', chats, last_id) + 1
  else -- that chat has moved to the front since, or is deleted: go on below its old score
    first = redis.call('ZCOUNT', chats, '(' .. last_score, '+inf')
  end
end
return redis.call('ZREVRANGE', chats, first, first + limit - 1, 'WITHSCORES')
