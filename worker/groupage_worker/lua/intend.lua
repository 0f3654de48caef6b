#!lua flags=allow-oom
-- Notes that a request is about to be asked online, or that it was not asked after all.
-- KEYS[1] manifest (hash)
-- ARGV[1] custom_id   ARGV[2] by how much: 1 or -1; 0: once before, if nothing says how often
-- RETURNS the notes so far; -1 if the batch does not owe this request any more
-- COST O(1)
-- INVARIANT a small field of a hash that is there anyway: a full Redis does not stop the way out; whoever woke up
--   late asks for nothing that others have answered or given back
local manifest, field = KEYS[1], '#asked:' .. ARGV[1]
if redis.call('HEXISTS', manifest, ARGV[1]) == 0 then
  return -1
end
if ARGV[2] == '0' then
  redis.call('HSETNX', manifest, field, 1)
end
return redis.call('HINCRBY', manifest, field, ARGV[2])
