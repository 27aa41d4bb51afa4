-- Give a chat a better title, unless a person has set it or the name belongs to another chat now.
--#keys chat
--#args title mark
local found, titled, has_title = unpack(redis.call('HMGET', chat, 'mark', 'titled', 'title'))
if found == mark and titled ~= '1' and has_title then
  redis.call('HSET', chat, 'title', title)
end
