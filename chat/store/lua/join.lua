-- Put an agent into the pool, in its old place if it had one, else in front: it has been used least.
-- KEYS  pool
-- ARGV  agent, instance
-- Returns the instances it was with before.
local before, place = {}, 0
local pool = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #pool, 2 do
  local agent, instance = string.match(pool[i], '^(%S+) (%S+)$')
  if agent == ARGV[1] then
    place = pool[i + 1]
    if instance ~= ARGV[2] then
      redis.call('ZREM', KEYS[1], pool[i])
      before[#before + 1] = instance
    end
  end
end
redis.call('ZADD', KEYS[1], place, ARGV[1] .. ' ' .. ARGV[2])
return before
