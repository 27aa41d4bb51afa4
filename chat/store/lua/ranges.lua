-- Read messages of one branch: the newest that fit into so many bytes, at least one.
--#keys history
-- ranges: index of the first and the last message of each, in turn.
--#args max_bytes ranges...
--#include collect
local messages, room = {}, tonumber(max_bytes)
for i = #ranges, 2, -2 do
  if room >= 0 then
    room = collect(messages, history, tonumber(ranges[i - 1]), tonumber(ranges[i]), room, math.huge)
  end
end
return reversed(messages)
