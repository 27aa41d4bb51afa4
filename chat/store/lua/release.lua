-- Forget a running turn in its owner's record.    KEYS  the owner's record    ARGV  nonce
local running = redis.call('HGET', KEYS[1], 'running')
if running then
  redis.call('HSET', KEYS[1], 'running', (string.gsub(running, '[^ ]*@' .. ARGV[1] .. '@%d+ ', '')))
end
