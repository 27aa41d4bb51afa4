-- May an owner begin a turn? `owner`: what its record says, as begin.lua reads it; `all_spent`: the
-- field of everybody; `most`: the limits of an owner without its own, and of everybody.
-- Returns what refuses ("rate", "budget", "turns" or nil); limit, rest and ms until the reset of
-- what refuses, or of the tightest rate; the field `rate` with this turn counted; and whether the
-- end of the turn has to be counted too.
local function admit(owner, all_spent, most, now)
  local refused, limit, rest, reset, rates = nil, 0, 0, 0, {}
  for count, seconds in string.gmatch(owner[2] or most.rates, '(%d+)/(%d+)') do
    local start, used = string.match(' ' .. (owner[5] or ''), ' ' .. seconds .. '=(%d+):(%d+)')
    start, used = tonumber(start or now), tonumber(used or 0)
    if start + seconds * 1000 <= now then start, used = now, 0 end
    local left, ends = math.max(0, count - used), start + seconds * 1000 - now
    if limit == 0 or left < rest or (left == rest and ends > reset) then
      limit, rest, reset = tonumber(count), left, ends
    end
    if left == 0 then refused = 'rate' end
    rates[#rates + 1] = string.format('%d=%d:%d', seconds, start, used + 1)
  end
  local midnight = 86400000 - now % 86400000
  local budget, turns = tonumber(owner[3] or most.budget), tonumber(owner[4] or most.turns)
  local function over(spent, allowed)
    if allowed > 0 and spent_today(spent, now) >= allowed and (not refused or midnight > reset) then
      refused, limit, rest, reset = 'budget', allowed, 0, midnight
    end
  end
  over(owner[6], budget)
  over(all_spent, most.all)
  local _, running = string.gsub(owner[7] or '', '@%d+ ', '')
  if not refused and turns > 0 and running >= turns then
    refused, limit, rest, reset = 'turns', turns, 0, 1000
  end
  return refused, limit, rest, reset, table.concat(rates, ' '), budget + turns + most.all > 0
end
