#!lua flags=allow-oom
-- Begins one step of a batch: whoever comes last holds the fence.
-- KEYS[1] batch (hash)
-- ARGV[1] now (Unix ms)   ARGV[2] a begin without a commit that is older than this is a death (ms)
-- RETURNS the record as field, value, ...; empty if there is none
-- COST O(1)
-- INVARIANT fence only grows, and is at least the time: after a Redis that fell back none is given out again that a
--   worker of the lost history may still hold; runs counts the begins of this state that did not commit, deaths those of
--   them that were not just overtaken by another begin
local batch, now = KEYS[1], tonumber(ARGV[1])
local known = redis.call('HMGET', batch, 'state', 'runs', 'begun_at_ms', 'fence')
if not known[1] then
  return {}
end
if tonumber(known[2] or 0) > 0 and now - tonumber(known[3] or now) >= tonumber(ARGV[2]) then
  redis.call('HINCRBY', batch, 'deaths', 1)
end
redis.call('HSET', batch, 'begun_at_ms', ARGV[1])
redis.call('HINCRBY', batch, 'fence', string.format('%.0f', math.max(1, now - tonumber(known[4] or 0))))
redis.call('HINCRBY', batch, 'runs', 1)
return redis.call('HGETALL', batch)
