-- Whether an owner may begin a turn. `owner`: its record, whose own limits come before those given;
-- 0: no limit. prompt and answer: the tokens of a turn, by estimate and at most; busy: the chat is.
-- Returns `refused` ('rate', 'budget', 'reserved', 'turns' or nil); `limit`, `remaining` and
-- `reset_ms` of what refuses, or of the tightest rate; `rates`, `reserved`, `all_reserved`: fields
-- with this turn in them; `counted`, whether its end is counted too; `tokens`: what it reserves;
-- `cap`: the largest answer that is left (0: any).
local function admit(owner, everybody, running, rates, daily_tokens, concurrent_turns, all_tokens,
    prompt, answer, busy, now)
  local status = check_rates(owner, rates, now)
  local midnight_ms = 86400000 - now % 86400000
  local function refuse(why, limit, reset_ms)
    -- Of several that refuse, the one that is reset last is shown: earlier, no turn can begin.
    if not status.refused or reset_ms > status.reset_ms then
      status.refused, status.limit, status.remaining, status.reset_ms = why, limit, 0, reset_ms
    end
  end

  local wanted = answer
  local function check_budget(spent, reserved, budget)
    if budget == 0 then return end
    local left, held = budget - spent_today(spent, now), spent_today(reserved, now)
    if left <= 0 or (held == 0 and left <= prompt) then
      refuse('budget', budget, midnight_ms)
    elseif held > 0 and left - held < prompt + wanted then
      -- What runs gives back what it does not use. A busy chat waits for that anyway.
      if not busy and not status.refused then refuse('reserved', budget, 1000) end
    else
      answer = math.min(answer, left - held - prompt)
    end
  end
  local budget = tonumber(owner.daily_token_budget or daily_tokens)
  local all_budget = tonumber(all_tokens)
  local all = everybody and redis.call('HMGET', everybody, 'spent', 'reserved') or {}
  check_budget(owner.spent, owner.reserved, budget)
  check_budget(all[1], all[2], all_budget)

  -- Too many turns at once do not refuse a busy chat: stopping its turn makes the room it needs.
  local turns = tonumber(owner.max_concurrent_turns or concurrent_turns)
  if turns > 0 and not busy and not status.refused
      and redis.call('ZCOUNT', running, '(' .. now, '+inf') >= turns then
    refuse('turns', turns, 1000)
  end

  local in_force = budget + all_budget > 0
  status.counted = in_force or turns > 0
  status.cap = in_force and answer or 0
  status.tokens = in_force and prompt + answer or 0
  status.reserved = spend(owner.reserved, status.tokens, now)
  status.all_reserved = spend(all[2], status.tokens, now)
  return status
end
