-- Find an agent for a question: the one that is wished for, else the least recently used one; and
-- hand the question to its instance. An instance without an inbox is dead: its agents are dropped.
-- KEYS  pool, own inbox, then the inboxes of other instances
-- ARGV  own instance, agent wished for, member of the pool to leave out, id of the question, the question ("" = it
--       can be handed to nobody else), then the names of those instances
-- Returns {agent, instance}; {"", instance} when that one's inbox must be among KEYS, or the own one
-- be opened first, since the answer comes there; or {}: none.
local inboxes, dead = {}, {}
for i = 3, #KEYS do inboxes[ARGV[i + 3]] = KEYS[i] end
local pool = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local newest = tonumber(pool[#pool] or 0)

local function hand_over(agent, instance)
  if instance == ARGV[1] then return true end
  return redis.call('XADD', inboxes[instance], 'NOMKSTREAM', '*', 'k', 'ask', 'q', ARGV[4], 'a', agent, 'i', ARGV[1], 'x', ARGV[5])
end

for _, wished in ipairs({true, false}) do
  for i = 1, #pool, 2 do
    local agent, instance = string.match(pool[i], '^(%S+) (%S+)$')
    if dead[instance] then
      redis.call('ZREM', KEYS[1], pool[i])
    elseif pool[i] ~= ARGV[3] and (agent == ARGV[2]) == wished then
      if instance ~= ARGV[1] and (ARGV[5] == '' or not inboxes[instance]) then return {'', instance} end
      if instance ~= ARGV[1] and redis.call('EXISTS', KEYS[2]) == 0 then return {'', ARGV[1]} end
      if hand_over(agent, instance) then
        redis.call('ZADD', KEYS[1], 'XX', newest + 1, pool[i])
        return {agent, instance}
      end
      dead[instance] = true
      redis.call('ZREM', KEYS[1], pool[i])
    end
  end
end
return {}
