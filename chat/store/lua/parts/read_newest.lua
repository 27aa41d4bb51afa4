-- The newest messages of a range of indexes that fit into so many bytes, oldest first.
local function read_newest(history, first, last, max_bytes)
  local messages = {}
  collect(messages, history, first, last, tonumber(max_bytes), math.huge)
  return reversed(messages)
end
