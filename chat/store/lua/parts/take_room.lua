-- Count what a turn will store, and its chat if it is new. Returns the quota that forbids it.
local function take_room(chats, sizes, chat_id, is_new, asked, max_chats, max_stored, now)
  local bytes = #asked + (is_new and 512 or 0) -- what a chat itself takes
  local over = over_quota(chats, sizes, is_new, bytes, max_chats, max_stored)
  if over then return over end
  add_bytes(sizes, chat_id, bytes, max_stored)
  if is_new and max_chats ~= '0' then redis.call('ZADD', chats, now, chat_id) end
end
