-- The messages that the next turn replays; false when there are none, or branches, or when they may
-- have more than so many bytes: then the caller reads as many as it can use.
local function read_replay(history, forks, count, start, bytes, max_bytes)
  if forks ~= '' or count <= start then return false end
  local replayed = replayed_bytes(bytes, count)
  if not replayed or replayed > tonumber(max_bytes) then return false end
  return redis.call('LRANGE', history, start - count, -1)
end
