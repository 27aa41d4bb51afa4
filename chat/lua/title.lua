-- Give a chat a better title, unless it has another one than expected by now.
-- KEYS  chat    ARGV  expected title, new title
if redis.call('HGET', KEYS[1], 'title') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'title', ARGV[2])
end
