-- Read messages of one branch.    KEYS  history    ARGV  first and last place, pairwise
-- Returns the messages in that order.
local messages = {}
for i = 1, #ARGV, 2 do
  for _, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[i], ARGV[i + 1])) do
    messages[#messages + 1] = message
  end
end
return messages
