-- Give a chat a better title, unless a person has set it.    KEYS  chat    ARGV  title
if redis.call('HGET', KEYS[1], 'titled') ~= '1' and redis.call('HEXISTS', KEYS[1], 'title') == 1 then
  redis.call('HSET', KEYS[1], 'title', ARGV[1])
end
