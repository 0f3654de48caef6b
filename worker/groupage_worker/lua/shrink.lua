#!lua flags=allow-oom
-- Lowers reservations of batches whose true count is known to be less.
-- KEYS[1] quota of the deployment (hash)
-- ARGV[1..] attempt field, tokens that it needs
-- RETURNS tokens given back
-- COST O(n) for n attempts
-- INVARIANT a reservation only shrinks; one that was released meanwhile stays released
local quota, freed = KEYS[1], 0
for i = 1, #ARGV, 2 do
  local held, tokens = tonumber(redis.call('HGET', quota, ARGV[i]) or 0), tonumber(ARGV[i + 1])
  if tokens < held then
    redis.call('HSET', quota, ARGV[i], ARGV[i + 1])
    freed = freed + held - tokens
  end
end
return freed
