-- Read messages from an index on, oldest first: as many as fit into so many bytes, at least one,
-- and no more than a hundred.
--#keys history
--#args first max_bytes
local messages, room, at = {}, tonumber(max_bytes), tonumber(first)
while room > 0 and #messages < 100 do
  local found = redis.call('LRANGE', history, at, at + 9)
  for _, message in ipairs(found) do
    room = room - #message
    if room < 0 and #messages > 0 then return messages end
    messages[#messages + 1] = message
  end
  at = at + 10
  if #found < 10 then break end
end
return messages
