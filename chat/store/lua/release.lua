-- Remove a turn from the running turns in its owner's record.
--#keys record
--#args nonce
local running = redis.call('HGET', record, 'running')
if running then
  running = string.gsub(running, '[^ ]*@' .. nonce .. '@%d+ ', '')
  redis.call('HSET', record, 'running', running)
end
