#!lua flags=allow-oom
-- Gives back the room that is held at a target for the rest of a batch, if that never landed there.
-- KEYS[1] the rest (hash)   KEYS[2] quota of the target (hash)
-- ARGV[1] attempt field that holds the rest
-- RETURNS 1 given back, 0 the rest has a record and needs the room, or nothing was held
-- COST O(1)
-- INVARIANT what an open batch holds stays held, also when the step that landed it is run again
local rest, quota = KEYS[1], KEYS[2]
if redis.call('EXISTS', rest) == 1 then
  return 0
end
return redis.call('HDEL', quota, ARGV[1])
