-- Read messages from an index on, oldest first: as many as fit into so many bytes, at least one,
-- and no more than a hundred.
--#keys history
--#args first max_bytes
local messages, room, at, count = {}, tonumber(max_bytes), tonumber(first), 4
while room > 0 and #messages < 100 do
  local found = redis.call('LRANGE', history, at, at + count - 1)
  local before = room
  for _, message in ipairs(found) do
    room = room - #message
    if room < 0 and #messages > 0 then return messages end
    messages[#messages + 1] = message
  end
  if #found < count then break end
  at = at + count
  count = before - room < 65536 and 16 or 4
end
return messages
