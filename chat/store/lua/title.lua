-- Give a chat a better title, unless a person has set it.
--#keys chat
--#args title
if redis.call('HGET', chat, 'titled') ~= '1' and redis.call('HEXISTS', chat, 'title') == 1 then
  redis.call('HSET', chat, 'title', title)
end
