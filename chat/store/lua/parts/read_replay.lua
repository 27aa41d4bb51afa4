-- The messages that the next turn replays; false when they may have more than so many bytes: then
-- the caller reads as many as it can use.
local function read_replay(history, count, start, bytes, max_bytes)
  if count == start then return {} end
  if (replayed_bytes(bytes, count) or math.huge) > tonumber(max_bytes) then return false end
  return redis.call('LRANGE', history, start - count, -1)
end
