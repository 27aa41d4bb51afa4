-- Note that the answer of the newest turn has reached its client.
--#keys chat
--#args nonce
local recent = redis.call('HGET', chat, 'recent') or ''
local entry = string.match(recent, '^(%x+ %d+ ' .. nonce .. ') undelivered$')
if entry then redis.call('HSET', chat, 'recent', entry .. ' delivered') end
