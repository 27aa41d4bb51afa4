-- Read messages of one branch, in the order of the ranges.
--#keys history
-- ranges: index of the first and the last message of each, in turn.
--#args ranges...
local messages = {}
for i = 1, #ranges, 2 do
  for _, message in ipairs(redis.call('LRANGE', history, ranges[i], ranges[i + 1])) do
    messages[#messages + 1] = message
  end
end
return messages
