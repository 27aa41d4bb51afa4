-- Add up what an owner used: one line for each day and model instead of one for each turn.
-- Returns these lines, `<day> <model> <requests> <prompt tokens> <completion tokens>`.
--#keys usage
--#args oldest_day
local lines = redis.call('LRANGE', usage, 0, -1)
local sums, names = {}, {}
for _, line in ipairs(lines) do
  local name, requests, prompt, completion = string.match(line, '^(.*) (%d+) (%d+) (%d+)$')
  if name >= oldest_day then -- a name begins with its day
    if not sums[name] then
      sums[name] = {0, 0, 0}
      names[#names + 1] = name
    end
    local sum = sums[name]
    sum[1], sum[2], sum[3] = sum[1] + requests, sum[2] + prompt, sum[3] + completion
  end
end

local added = {}
for i, name in ipairs(names) do
  added[i] = string.format('%s %d %d %d', name, unpack(sums[name]))
end
if #added < #lines then
  redis.call('DEL', usage)
  for _, line in ipairs(added) do redis.call('RPUSH', usage, line) end
end
return added
