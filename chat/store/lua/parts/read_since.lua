-- The messages since a revision, oldest first: the newest 1000 at most, that fit into the bytes.
local function read_since(history, revision, count, max_bytes)
  local messages, first = {}, math.max(math.min(revision, count), count - 1000)
  collect(messages, history, first, count - 1, tonumber(max_bytes), math.huge)
  return reversed(messages)
end
