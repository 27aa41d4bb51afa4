-- The field `spent` is `<day since 1970>:<tokens>`: read today's tokens, and add to them.
local function spent_today(field, now)
  local day, tokens = string.match(field or '', '^(%d+):(%d+)$')
  return tonumber(day) == math.floor(now / 86400000) and tonumber(tokens) or 0
end
local function spend(field, tokens, now)
  return string.format('%d:%d', math.floor(now / 86400000), spent_today(field, now) + tokens)
end
