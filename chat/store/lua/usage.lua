-- Add up what an owner used, line by line `<day> <model> <requests> <prompt> <completion tokens>`.
-- KEYS  usage    ARGV  oldest day to keep    Returns the lines, one for each day and model.
local lines = redis.call('LRANGE', KEYS[1], 0, -1)
local sums, order = {}, {}
for _, line in ipairs(lines) do
  local name, requests, prompt, completion = string.match(line, '^(.*) (%d+) (%d+) (%d+)$')
  if name >= ARGV[1] then
    if not sums[name] then
      sums[name] = {0, 0, 0}
      order[#order + 1] = name
    end
    local sum = sums[name]
    sum[1], sum[2], sum[3] = sum[1] + requests, sum[2] + prompt, sum[3] + completion
  end
end
local added = {}
for i, name in ipairs(order) do
  added[i] = string.format('%s %d %d %d', name, unpack(sums[name]))
end
if #added < #lines then
  redis.call('DEL', KEYS[1])
  for _, line in ipairs(added) do redis.call('RPUSH', KEYS[1], line) end
end
return added
