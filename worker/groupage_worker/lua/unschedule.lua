#!lua flags=allow-oom
-- Takes the step of a batch without a record out of the due sets.
-- KEYS[1] batch (hash)   KEYS[2] due:light (zset)   KEYS[3] due:heavy (zset)   ARGV[1] step name
-- RETURNS 1 taken out, 0 there is a record after all
-- COST O(log d) for d due steps
-- INVARIANT a batch that has a record stays due: it may have been adopted since somebody looked
local batch, light, heavy = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', batch) == 1 then
  return 0
end
redis.call('ZREM', light, ARGV[1])
redis.call('ZREM', heavy, ARGV[1])
return 1
