#!lua flags=allow-oom
-- Gives back a reservation that nobody will ever release: its batch is closed, gone, or at another attempt.
-- KEYS[1] batch (hash)   KEYS[2] quota of the deployment (hash)   KEYS[3] batch it may be the rest of (hash)
-- ARGV[1] attempt field   ARGV[2] attempt
-- RETURNS tokens given back; 0: somebody still answers for it
-- COST O(1)
-- INVARIANT what an open batch holds, or the rest of one that is being moved, stays held
local batch, quota, parent = KEYS[1], KEYS[2], KEYS[3]
local is = redis.call('HMGET', batch, 'state', 'attempt')
if is[1] and is[1] ~= 'closed' and is[2] == ARGV[2] then
  return 0
end
if not is[1] and (redis.call('HGET', parent, 'target') or '') ~= '' then
  return 0
end
local held = tonumber(redis.call('HGET', quota, ARGV[1]) or 0)
redis.call('HDEL', quota, ARGV[1])
return held
