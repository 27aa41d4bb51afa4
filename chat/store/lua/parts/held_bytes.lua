-- How many bytes are held for the running turn.
local function held_bytes(chat, max_stored)
  return max_stored ~= '0' and redis.call('HSTRLEN', chat, 'said') or 0
end
