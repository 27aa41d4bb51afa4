-- Book what was used beside a turn, or what is only known after its end.
--#keys usage record everybody?
--#args line tokens
--#include clock spent
redis.call('RPUSH', usage, line)
local now = clock()
for _, key in ipairs({record, everybody}) do
  if redis.call('EXISTS', key) == 1 then -- where limits are counted, and their owner still is
    redis.call('HSET', key, 'spent', spend(redis.call('HGET', key, 'spent'), tokens, now))
  end
end
