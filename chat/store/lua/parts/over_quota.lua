-- Why an owner may not store so many bytes more: 'chats' (is_new: it would be one more) or 'bytes'.
local function over_quota(chats, sizes, is_new, bytes, max_chats, max_stored)
  if is_new and max_chats ~= '0' and redis.call('ZCARD', chats) >= tonumber(max_chats) then
    return 'chats'
  end
  local stored = max_stored ~= '0' and (redis.call('HGET', sizes, '') or 0)
  return stored and stored + bytes > tonumber(max_stored) and 'bytes'
end
