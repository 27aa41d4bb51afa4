-- Read a page of a list, newest first; after the oldest come, from the earliest on, those that have
-- moved up since the first page: whoever reads all pages misses none.
--#keys chats
-- top: when the first page was read ('' = now). last_score, last_id: where the page before ended.
-- rising '1': it had come to those that have moved up.
--#args limit top last_score last_id rising
-- Returns {top, what is next ('' = nothing, '0', '1' = rising), {id, score, id, score, ...}}.
--#include clock
local count = tonumber(limit)

local function read_rising()
  local first = redis.call('ZCOUNT', chats, '-inf', '(' .. last_score)
  if last_id ~= '' and redis.call('ZSCORE', chats, last_id) == last_score then
    first = redis.call('ZRANK', chats, last_id) + 1
  end
  return redis.call('ZRANGE', chats, first, first + count, 'WITHSCORES')
end

local function read_falling()
  local first = 0
  if last_id ~= '' then
    if redis.call('ZSCORE', chats, last_id) == last_score then
      first = redis.call('ZREVRANK', chats, last_id) + 1
    else -- it has moved up since, or is deleted: go on below its old score
      first = redis.call('ZCOUNT', chats, '(' .. last_score, '+inf')
    end
  end
  return redis.call('ZREVRANGE', chats, first, first + count, 'WITHSCORES')
end

local found = rising == '1' and read_rising() or read_falling()
local more = #found > 2 * count and rising or ''
if more ~= '' then
  table.remove(found)
  table.remove(found)
elseif rising == '0' and top ~= '' and redis.call('ZCOUNT', chats, top, '+inf') > 0 then
  more = '1'
end
return {top ~= '' and top or string.format('%d', clock()), more, found}
