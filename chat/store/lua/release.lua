-- Free what a turn has reserved whose chat is lost: no commit, drop or deletion will do it.
--#keys record running everybody?
-- member: as it is in `running`; tokens, day: what it has reserved.
--#args member tokens day
--#include spent
if not redis.call('ZSCORE', running, member) then return end
for _, key in ipairs({record, everybody}) do
  local reserved = redis.call('HGET', key, 'reserved')
  redis.call('HSET', key, 'reserved', unreserve(reserved, tokens, day))
end
redis.call('ZREM', running, member)
