#!lua flags=allow-oom
-- Begins one step of a batch: whoever comes last holds the fence.
-- KEYS[1] batch (hash)
-- RETURNS the record as field, value, ...; empty if there is none
-- COST O(1)
-- INVARIANT fence only grows; runs counts the begins of this state that did not commit
local batch = KEYS[1]
if redis.call('EXISTS', batch) == 0 then
  return {}
end
redis.call('HINCRBY', batch, 'fence', 1)
redis.call('HINCRBY', batch, 'runs', 1)
return redis.call('HGETALL', batch)
