#!lua flags=allow-oom
-- Writes what a person wants of a batch into its record, and makes its step due, which acts on it.
-- KEYS[1] batch (hash)   KEYS[2] due:light (zset)
-- ARGV[1] state the batch must be in   ARGV[2] the wish   ARGV[3] step name   ARGV[4] due (Unix ms)
-- RETURNS the state of the batch, empty if there is no record; the wish is written only if it is ARGV[1]
-- COST O(log d) for d due steps
-- INVARIANT whoever works on the batch just now loses its fence: a step that never saw the wish cannot put it off
local batch, due = KEYS[1], KEYS[2]
local state = redis.call('HGET', batch, 'state')
if state == ARGV[1] then
  redis.call('HINCRBY', batch, 'fence', 1)
  redis.call('HSET', batch, 'wish', ARGV[2])
  redis.call('ZADD', due, ARGV[4], ARGV[3])
end
return state or ''
