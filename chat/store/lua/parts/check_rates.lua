-- Fixed windows: each begins with the first turn after the one before has ended. Returns
-- `refused`; `limit`, `remaining`, `reset_ms` of the tightest; `rates`, with this turn counted.
local function check_rates(owner, rates, now)
  local status, windows = {limit = 0, remaining = 0, reset_ms = 0}, {}
  for count, seconds in string.gmatch(owner.rate_limit or rates, '(%d+)/(%d+)') do
    local start, used = string.match(' ' .. (owner.rate or ''), ' ' .. seconds .. '=(%d+):(%d+)')
    start, used = tonumber(start or now), tonumber(used or 0)
    if start + seconds * 1000 <= now then start, used = now, 0 end
    local left, left_ms = math.max(0, count - used), start + seconds * 1000 - now
    if status.limit == 0 or left < status.remaining
        or (left == status.remaining and left_ms > status.reset_ms) then
      status.limit, status.remaining, status.reset_ms = tonumber(count), left, left_ms
    end
    if left == 0 then status.refused = 'rate' end
    windows[#windows + 1] = string.format('%d=%d:%d', seconds, start, used + 1)
  end
  status.rates = table.concat(windows, ' ')
  return status
end

-- The reply to a turn that is refused, with turns that may be dead: their lease has run out.
local function limited(status, running, now)
  local dead = status.refused == 'reserved'
    and redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, 20) or {}
  return {'limited', now, status.refused, status.limit, status.remaining, status.reset_ms, dead}
end
