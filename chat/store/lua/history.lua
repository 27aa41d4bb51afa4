-- Read messages, oldest first; a script because a plain read may come from a lagging replica.
--#keys chat history
-- known: an ETag the caller has ('' = none); index, before: index and id of the message to stop
-- before ('' = none); branch '1': that of a certain message is asked for.
--#args limit known index before branch
-- Returns {revision, mark, whether a turn is running, index of the first message, messages},
-- without messages when the known ETag is current; {revision, mark, whether a turn is running,
-- forks} when the chat has forks or a branch is asked for; or false without a message of that id.
--#include stored_message etag
local count, mark, turn, forks = unpack(redis.call('HMGET', chat, 'message_count', 'mark', 'turn',
  'forks'))
local revision, running = tonumber(count or 0), (turn or '') ~= '' and 1 or 0
if known == etag_of(mark, revision) then return {revision, mark or '', running, 0, {}} end
if forks or branch ~= '' then return {revision, mark or '', running, forks or ''} end

local stop = revision
if before ~= '' then
  if not stored_message(history, index, before) then return false end
  stop = tonumber(index)
end

local first = math.max(0, stop - limit)
if first >= stop then return {revision, mark or '', running, first, {}} end
return {revision, mark or '', running, first, redis.call('LRANGE', history, first, stop - 1)}
