-- Add messages from index `first` to `last` to a list, from the last one down, until `room` bytes
-- are full; the first message of a list fits always. Those from `safe` on are known to fit, and are
-- read at once; else, since each may have megabytes, 4 at a time, or 16 while they are small.
-- Returns the bytes that are left; negative: the list is full.
local function collect(list, history, first, last, room, safe)
  local count = 4
  while last >= first do
    local from = last >= safe and math.max(first, safe) or math.max(first, last - count + 1)
    local messages, before = redis.call('LRANGE', history, from, last), room
    for i = #messages, 1, -1 do
      room = room - #messages[i] - 1
      if room < 0 and #list > 0 then return room end
      list[#list + 1] = messages[i]
    end
    count = before - room < 65536 and 16 or 4
    last = from - 1
  end
  return room
end

local function reversed(list)
  local result = {}
  for i = #list, 1, -1 do result[#result + 1] = list[i] end
  return result
end
