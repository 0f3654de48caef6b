#!lua flags=allow-oom
-- Notes that a worker is alive and this server's history goes on; freezes the fleet if it does not.
-- KEYS[1] epoch (hash)
-- ARGV[1] now (Unix ms)
-- ARGV[2] a new id, should there be none
-- ARGV[3] id, ARGV[4] number and ARGV[5] beat as this worker saw them last; '' before the first time
-- ARGV[6] the highest number of any history that this worker knows
-- RETURNS {id, number, beat, frozen since (Unix ms) or 0, reason}
-- COST O(1)
-- INVARIANT number only grows, and each beat is larger than the last; a history that went back, was lost or belongs to
--           a restarted server is frozen
local epoch = KEYS[1]
local now = ARGV[1]
-- asked here, not by a call before this one: between the two the server may have been replaced, and its successor
-- would be taken for it, with all that it lost. In a cluster it is that of the node on which this key lies
local info = redis.pcall('INFO', 'server')
local run_id = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local e = redis.call('HMGET', epoch, 'id', 'number', 'beat', 'run_id', 'frozen_at_ms', 'reason')
local id, number, beat = e[1], tonumber(e[2] or 0), tonumber(e[3] or 0)
local seen_number, seen_beat = tonumber(ARGV[4]) or 0, tonumber(ARGV[5]) or 0
local reason = nil
if not id then
  id, reason = ARGV[2], ARGV[3] == '' and 'new' or 'lost'
elseif run_id ~= '' and e[4] and e[4] ~= '' and e[4] ~= run_id then
  reason = 'restarted'
elseif number > seen_number and seen_number > 0 then
  reason = nil -- somebody else has seen it and frozen the fleet already
elseif ARGV[3] ~= '' and id ~= ARGV[3] then
  reason = 'replaced'
elseif beat < seen_beat then
  reason = 'went_back'
end
if reason then
  number = math.max(number + 1, seen_number + 1, tonumber(ARGV[6]) + 1, tonumber(now))
  redis.call('HSET', epoch, 'id', id, 'number', string.format('%.0f', number), 'frozen_at_ms', now, 'reason', reason)
  e[5], e[6] = now, reason
end
-- each beat is larger than the one before, whatever the clocks: a producer that sees it grow knows that a worker has
-- looked since
beat = math.max(beat + 1, tonumber(now))
redis.call('HSET', epoch, 'beat', string.format('%.0f', beat))
if run_id ~= '' then
  redis.call('HSET', epoch, 'run_id', run_id)
end
return {id, string.format('%.0f', number), string.format('%.0f', beat), e[5] or '0', e[6] or ''}
