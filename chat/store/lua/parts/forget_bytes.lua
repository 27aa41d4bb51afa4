-- A chat is gone: its bytes are not the owner's any more.
local function forget_bytes(sizes, chat_id)
  local bytes = redis.call('HGET', sizes, chat_id)
  if bytes then
    redis.call('HINCRBY', sizes, '', -bytes)
    redis.call('HDEL', sizes, chat_id)
  end
end
