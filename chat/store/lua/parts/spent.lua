-- The fields `spent` and `reserved` are `<day since 1970>:<tokens>`: read today's tokens, add to
-- them, take back what was reserved on a day.
local function day_of(now)
  return math.floor(now / 86400000)
end
local function spent_today(field, now)
  local day, tokens = string.match(field or '', '^(%d+):(%d+)$')
  return tonumber(day) == day_of(now) and tonumber(tokens) or 0
end
local function spend(field, tokens, now)
  return string.format('%d:%d', day_of(now), spent_today(field, now) + tokens)
end
local function unreserve(field, tokens, day)
  local reserved_on, reserved = string.match(field or '', '^(%d+):(%d+)$')
  if reserved_on ~= day then return field or '' end
  return string.format('%s:%d', day, math.max(0, reserved - tokens))
end
