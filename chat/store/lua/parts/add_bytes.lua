-- What an owner has stored: `sizes` has the bytes of each chat, and of all under ''. It is kept
-- only where there is a quota; max_chats, max_stored '0': none.
local function add_bytes(sizes, chat_id, bytes, max_stored)
  if max_stored == '0' or bytes == 0 then return end
  redis.call('HINCRBY', sizes, chat_id, bytes)
  redis.call('HINCRBY', sizes, '', bytes)
end
