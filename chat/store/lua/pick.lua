-- Choose an agent for a question, the preferred one or else the least recently used, and put the
-- question into the inbox of its instance. An instance without an inbox is dead; its agents go.
--#keys pool own_inbox inboxes...
-- preferred: an agent; excluded: a member of the pool; data: the question ('' = it cannot be put
-- into another inbox); instances: those that `inboxes` belong to.
--#args own_instance preferred excluded question data instances...
-- Returns {agent, instance}; {} when there is none; or {'', instance}: ask again, with the inbox of
-- that instance among the keys, or, if it is the own one, once its inbox is open.
local inbox_of, dead = {}, {}
for i, instance in ipairs(instances) do inbox_of[instance] = inboxes[i] end
local members = redis.call('ZRANGE', pool, 0, -1, 'WITHSCORES')
local highest = tonumber(members[#members] or 0)

local function hand_over(agent, instance)
  if instance == own_instance then return true end
  return redis.call('XADD', inbox_of[instance], 'NOMKSTREAM', '*',
    'k', 'ask', 'q', question, 'a', agent, 'i', own_instance, 'x', data)
end

-- First the members of the preferred agent, then all others; the lowest score is the oldest use.
for _, is_preferred in ipairs({true, false}) do
  for i = 1, #members, 2 do
    local member = members[i]
    local agent, instance = string.match(member, '^(%S+) (%S+)$')
    local is_other = instance ~= own_instance
    if dead[instance] then
      redis.call('ZREM', pool, member)
    elseif member ~= excluded and (agent == preferred) == is_preferred then
      if is_other and (data == '' or not inbox_of[instance]) then return {'', instance} end
      -- The answer comes into our own inbox, so it must be there before the question leaves.
      if is_other and redis.call('EXISTS', own_inbox) == 0 then return {'', own_instance} end
      if hand_over(agent, instance) then
        redis.call('ZADD', pool, 'XX', highest + 1, member)
        return {agent, instance}
      end
      dead[instance] = true
      redis.call('ZREM', pool, member)
    end
  end
end
return {}
