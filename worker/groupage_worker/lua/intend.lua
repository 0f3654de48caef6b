#!lua flags=allow-oom
-- Notes that a request is about to be asked online, or that it was not asked after all.
-- KEYS[1] manifest (hash)
-- ARGV[1] custom_id   ARGV[2] by how much: 1 or -1; 0: once before, if nothing says how often
-- ARGV[3] fence of the step that asks
-- RETURNS the notes so far; -1 if the batch does not owe this request any more, -2 if a newer step asks; what was not
--   asked after all is taken back whoever asks now
-- COST O(1)
-- INVARIANT a small field of a hash that is there anyway: a full Redis does not stop the way out; whoever woke up
--   late asks for nothing that others have answered or given back, or are asking for
local manifest, field, fence = KEYS[1], '#asked:' .. ARGV[1], tonumber(ARGV[3])
if redis.call('HEXISTS', manifest, ARGV[1]) == 0 then
  return -1
end
local newest = tonumber(redis.call('HGET', manifest, '#asker') or 0)
if newest > fence and ARGV[2] ~= '-1' then
  return -2
end
if newest < fence then
  redis.call('HSET', manifest, '#asker', ARGV[3])
end
if ARGV[2] == '0' then
  redis.call('HSETNX', manifest, field, 1)
end
return redis.call('HINCRBY', manifest, field, ARGV[2])
