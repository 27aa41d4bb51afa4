-- Read fields of the chats of a page, as many chats as fit into so many bytes, at least one.
-- A chat that does not exist any more is removed from the list.
--#keys chats sizes hashes...
-- fields: their names. ids: those of the chats whose hashes are given.
--#args fields max_bytes ids...
-- Returns a list of values for each chat that was read.
--#include forget_bytes
local names, rows, gone, room = {}, {}, {}, tonumber(max_bytes)
for name in string.gmatch(fields, '%S+') do names[#names + 1] = name end

for i, hash in ipairs(hashes) do
  local row = redis.call('HMGET', hash, unpack(names))
  for _, value in ipairs(row) do room = room - (value and #value or 0) end
  if room < 0 and i > 1 then break end
  rows[i] = row
  if not row[1] and redis.call('EXISTS', hash) == 0 then gone[#gone + 1] = ids[i] end
end
for _, id in ipairs(gone) do
  redis.call('ZREM', chats, id)
  forget_bytes(sizes, id)
end
return rows
