-- The field `spent` is `<day>:<tokens>`: what it says of today, and how to write it.
local function spent_today(field, now)
  local day, tokens = string.match(field or '', '^(%d+):(%d+)$')
  return tonumber(day) == math.floor(now / 86400000) and tonumber(tokens) or 0
end
local function spend(field, tokens, now)
  return string.format('%d:%d', math.floor(now / 86400000), spent_today(field, now) + tokens)
end
