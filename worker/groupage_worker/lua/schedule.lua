#!lua flags=allow-oom
-- Makes a step due at an instant.
-- KEYS[1] due (zset)
-- ARGV[1] step name   ARGV[2] due (Unix ms)   ARGV[3] `new`: only if it is not there yet; `move`: in any case
-- RETURNS 1 added, 0 it was there
-- COST O(log d) for d due steps
-- INVARIANT a step is due at most once in a set; a full Redis does not stop the clock
local due, name, at = KEYS[1], ARGV[1], ARGV[2]
if ARGV[3] == 'new' then
  return redis.call('ZADD', due, 'NX', at, name)
end
return redis.call('ZADD', due, at, name)
