-- The messages since an ETag, oldest first: the newest 1000 at most, that fit into the bytes. Of a
-- chat with another mark, all are new.
local function unseen(history, expected, mark, count, max_bytes)
  local seen_mark, seen = string.match(expected, '^(%x+)%.(%d+)$')
  local first = seen_mark and seen_mark == mark and math.min(tonumber(seen), count) or 0
  local messages = {}
  collect(messages, history, math.max(first, count - 1000), count - 1, tonumber(max_bytes),
    math.huge)
  return reversed(messages)
end
