#!lua flags=allow-oom
-- Ends one step of a batch: writes the next state, moves its due time, adjusts its reservation. Only with the fence.
-- KEYS[1] batch (hash)   KEYS[2] due:light (zset)   KEYS[3] due:heavy (zset)   KEYS[4] quota (hash)
-- KEYS[5] history (list)   KEYS[6] record that must be there (hash): the batch's own, or that of the child that it made
-- ARGV[1] fence   ARGV[2] step name   ARGV[3] next step: light | heavy | none   ARGV[4] due (Unix ms)
-- ARGV[5] attempt field   ARGV[6] its reservation: tokens | keep | release | the field of the next attempt
-- ARGV[7] time to live (ms), 0: none   ARGV[8] event for the history, '' for none   ARGV[9] most events kept
-- ARGV[10..] field, value of the record
-- RETURNS 1 committed, 0 the fence is lost, or the other record
-- COST O(log d) for d due steps
-- INVARIANT a step that lost its fence changes nothing; a reservation only shrinks
local batch, light, heavy, quota, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local fence, name, where, at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', batch, 'fence') ~= fence then
  return 0
end
-- a server that fell back between the two may know the fence and not the child
if redis.call('EXISTS', KEYS[6]) == 0 then
  return 0
end
redis.call('HSET', batch, 'runs', 0, 'deaths', 0, unpack(ARGV, 10))
if where ~= 'light' then redis.call('ZREM', light, name) end
if where ~= 'heavy' then redis.call('ZREM', heavy, name) end
if where ~= 'none' then
  redis.call('ZADD', where == 'light' and light or heavy, at, name)
end
if ARGV[6] == 'release' then
  redis.call('HDEL', quota, ARGV[5])
elseif ARGV[6] ~= 'keep' then
  local held, tokens = tonumber(redis.call('HGET', quota, ARGV[5]) or 0), tonumber(ARGV[6])
  if not tokens then
    redis.call('HDEL', quota, ARGV[5])
    redis.call('HSET', quota, ARGV[6], held)
  elseif tokens < held then
    redis.call('HSET', quota, ARGV[5], ARGV[6])
  end
end
if ARGV[8] ~= '' then
  redis.call('RPUSH', history, ARGV[8])
  redis.call('LTRIM', history, -tonumber(ARGV[9]), -1)
end
if ARGV[7] ~= '0' then
  redis.call('PEXPIRE', batch, ARGV[7])
  redis.call('PEXPIRE', history, ARGV[7])
end
return 1
