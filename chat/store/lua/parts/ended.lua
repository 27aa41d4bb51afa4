-- The field `ended`: `<nonce>@<when, ms> ` of the turns that ended lately. A `begin` that is sent
-- again, because the reply to it was lost, must not begin anew what was ended in between.
local function has_ended(field, nonce)
  return nonce ~= '' and field and string.find(field, nonce .. '@', 1, true) ~= nil
end

-- Of a chat that is deleted, what ended is in `once`; it is read only if that may matter.
local function was_ended(once, field, nonce, resent)
  return has_ended(field, nonce)
    or (resent == '1' and has_ended(redis.call('HGET', once, 'ended'), nonce))
end

local function add_ended(field, nonce, now)
  local kept = {}
  for entry, at in string.gmatch(field or '', '(%x+@(%d+))') do
    if tonumber(at) > now - 10000 then kept[#kept + 1] = entry end
  end
  kept[#kept + 1] = string.format('%s@%d', nonce, now)
  return table.concat(kept, ' ')
end

-- A chat goes: its repeats are remembered for a day, the turns that ended for as long as it takes.
local function outlive(once, ended)
  redis.call('HSET', once, 'ended', ended)
  redis.call('PEXPIRE', once, redis.call('HLEN', once) > 1 and 86400000 or 10000)
end
