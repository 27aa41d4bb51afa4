-- The message at an index of the history, if it has this id; else false. A stored message begins
-- with its id, also when the rest of it is encrypted.
local function stored_message(history, index, id)
  local message = redis.call('LINDEX', history, index)
  local prefix = '{"id":"' .. id .. '"'
  return message and string.sub(message, 1, #prefix) == prefix and message
end
