-- Put an agent into the pool: with the score it had, else in front, since it was used least.
-- Returns the instances it was connected to before.
--#keys pool
--#args agent instance
local before, score = {}, 0
local members = redis.call('ZRANGE', pool, 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local member_agent, member_instance = string.match(members[i], '^(%S+) (%S+)$')
  if member_agent == agent then
    score = members[i + 1]
    if member_instance ~= instance then
      redis.call('ZREM', pool, members[i])
      before[#before + 1] = member_instance
    end
  end
end
redis.call('ZADD', pool, score, agent .. ' ' .. instance)
return before
