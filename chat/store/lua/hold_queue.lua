-- Let no message that waits for a chat begin, for as long as one may be silent: the chat is to be
-- deleted. A place in front, which nobody takes.
--#keys chat
--#include clock
local field = redis.call('HGET', chat, 'queue')
if field then
  redis.call('HSET', chat, 'queue', string.format('0!%d %s', clock(), field))
end
