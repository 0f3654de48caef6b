#!lua flags=allow-oom
-- Opens the record of a batch that takes the rest of a moved one, with the room that was held for it.
-- KEYS[1] batch (hash)   KEYS[2] quota of its deployment (hash)   KEYS[3] due (zset)
-- ARGV[1] its attempt field   ARGV[2] tokens it needs   ARGV[3] limit of the deployment (tokens)
-- ARGV[4] step name   ARGV[5] due (Unix ms)   ARGV[6..] field, value of the record
-- RETURNS 1 opened, or it was there already; 0 the room was given away and there is no other
-- COST O(a) for a open attempts of the deployment
-- INVARIANT the reserved tokens of the deployment never exceed its limit
local batch, quota, due = KEYS[1], KEYS[2], KEYS[3]
local field, tokens = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', batch) == 1 then
  return 1
end
local held = tonumber(redis.call('HGET', quota, field) or 0)
if tokens > held then
  local reserved = tokens - held
  for _, other in ipairs(redis.call('HVALS', quota)) do
    reserved = reserved + tonumber(other)
  end
  if reserved > tonumber(ARGV[3]) then return 0 end
end
redis.call('HSET', quota, field, ARGV[2])
redis.call('HSET', batch, unpack(ARGV, 6))
redis.call('ZADD', due, ARGV[5], ARGV[4])
return 1
