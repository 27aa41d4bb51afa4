-- Whether an owner may begin a turn. `owner`: its record, whose own limits come before those given;
-- `all_spent`: what all owners together have spent, and `all_tokens` their budget; 0: no limit.
-- Returns `refused` ('rate', 'budget', 'turns' or nil); `limit`, `remaining` and `reset_ms` of what
-- refuses, or else of the tightest rate; `rates`, the record's field `rate` with this turn counted;
-- and `counted`, whether the end of the turn has to be counted too.
local function admit(owner, all_spent, rates, daily_tokens, concurrent_turns, all_tokens, now)
  local status, windows = {limit = 0, remaining = 0, reset_ms = 0}, {}
  local function show(limit, remaining, reset_ms)
    status.limit, status.remaining, status.reset_ms = limit, remaining, reset_ms
  end

  -- Fixed windows: each begins with the first turn after the one before has ended.
  for count, seconds in string.gmatch(owner.rate_limit or rates, '(%d+)/(%d+)') do
    local start, used = string.match(' ' .. (owner.rate or ''), ' ' .. seconds .. '=(%d+):(%d+)')
    start, used = tonumber(start or now), tonumber(used or 0)
    if start + seconds * 1000 <= now then start, used = now, 0 end
    local left, left_ms = math.max(0, count - used), start + seconds * 1000 - now
    if status.limit == 0 or left < status.remaining
        or (left == status.remaining and left_ms > status.reset_ms) then
      show(tonumber(count), left, left_ms)
    end
    if left == 0 then status.refused = 'rate' end
    windows[#windows + 1] = string.format('%d=%d:%d', seconds, start, used + 1)
  end
  status.rates = table.concat(windows, ' ')

  -- Of several limits that refuse, the one that is reset last is shown: earlier, no turn can begin.
  local midnight_ms = 86400000 - now % 86400000
  local function check_budget(spent, budget)
    if budget > 0 and spent_today(spent, now) >= budget
        and (not status.refused or midnight_ms > status.reset_ms) then
      status.refused = 'budget'
      show(budget, 0, midnight_ms)
    end
  end
  local budget = tonumber(owner.daily_token_budget or daily_tokens)
  local all_budget = tonumber(all_tokens)
  check_budget(owner.spent, budget)
  check_budget(all_spent, all_budget)

  local turns = tonumber(owner.max_concurrent_turns or concurrent_turns)
  local _, running = string.gsub(owner.running or '', '@%d+ ', '')
  if not status.refused and turns > 0 and running >= turns then
    status.refused = 'turns'
    show(turns, 0, 1000)
  end

  status.counted = budget + turns + all_budget > 0
  return status
end
