-- Add messages from index `first` to `last` to a list, from the last one down, until `room` bytes
-- are full; the first message of a list fits always. No more than 16 at a time are read, for each
-- may have a megabyte; those from `safe` on are known to fit, and are read at once.
-- Returns the bytes that are left; negative: the list is full.
local function collect(list, history, first, last, room, safe)
  while last >= first do
    local from = last >= safe and math.max(first, safe) or math.max(first, last - 15)
    local messages = redis.call('LRANGE', history, from, last)
    for i = #messages, 1, -1 do
      room = room - #messages[i] - 1
      if room < 0 and #list > 0 then return room end
      list[#list + 1] = messages[i]
    end
    last = from - 1
  end
  return room
end

local function reversed(list)
  local result = {}
  for i = #list, 1, -1 do result[#result + 1] = list[i] end
  return result
end
