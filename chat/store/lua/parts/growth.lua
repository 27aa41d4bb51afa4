-- By how many bytes fields of a chat grow; `fields`: names and new values in turn.
local function growth(chat, fields, max_stored)
  local bytes = 0
  for i = 1, max_stored ~= '0' and #fields or 0, 2 do
    bytes = bytes + #fields[i + 1] - redis.call('HSTRLEN', chat, fields[i])
  end
  return bytes
end
