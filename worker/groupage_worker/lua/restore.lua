#!lua flags=allow-oom
-- Brings requests of a batch back from its input file: those that are lost anew, those that wait into the batch.
-- KEYS[1] load of the lane (hash)   KEYS[2] manifest (hash)
-- ARGV[1] lane prefix   ARGV[2] now (Unix ms)   ARGV[3] deadline of what was lost (Unix ms)   ARGV[4] slot width (ms)
-- ARGV[5] time to live after the deadline (ms)   ARGV[6] time to live of the manifest (ms)
-- ARGV[7] tokens that a line adds to its request
-- ARGV[8..] per request: producer, id, tokens, line bytes, value (header that says `c`, and body)
-- RETURNS {lost and restored, taken from the queue, in another batch or this one, settled}
-- COST O(n) for n requests
-- INVARIANT an open request stays in one place; a settled one stays settled
local load, manifest = KEYS[1], KEYS[2]
local prefix, now, deadline, wrap_tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[7])
local slot = prefix .. 'due:' .. string.format('%.0f', math.floor(deadline / tonumber(ARGV[4])))
local restored, taken, elsewhere, settled = 0, 0, 0, 0
for i = 8, #ARGV, 5 do
  local producer, id, tokens, bytes, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local base, field = prefix .. 'p:' .. producer .. ':', producer .. ':' .. id
  local key = base .. 'req:' .. id
  local head, owed = redis.call('GETRANGE', key, 0, 159), nil
  if head == '' then
    if redis.call('EXISTS', base .. 'rep:' .. id) == 1 then
      settled = settled + 1
    else
      local size = #value - string.find(value, '\n', 1, true)
      redis.call('SET', key, value, 'PX', math.max(1, deadline - now) + tonumber(ARGV[5]))
      redis.call('RPUSH', slot, field)
      for _, counters in ipairs({load, base .. 'load'}) do
        redis.call('HINCRBY', counters, 'open_requests', 1)
        redis.call('HINCRBY', counters, 'open_bytes', size)
        redis.call('HINCRBY', counters, 'open_tokens', tokens)
        redis.call('HINCRBY', counters, 'submitted_total', 1)
      end
      restored, owed = restored + 1, tokens
    end
  elseif string.sub(head, 1, 1) == 'w' then
    local t, priority = string.match(head, '^[^|]*|%d+|(%d+)|%d+|(%a)\n')
    redis.call('SETRANGE', key, 0, 'c')
    redis.call('HINCRBY', load, 'waiting_requests:' .. priority, -1)
    redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, -tonumber(t))
    taken, owed = taken + 1, t
  else
    elsewhere = elsewhere + 1
  end
  if owed then
    local accepted = redis.call('GETRANGE', key, 52, 64)
    owed = string.format('%.0f', tonumber(owed) + wrap_tokens)
    redis.call('HSET', manifest, field, owed .. '|' .. bytes .. '|' .. accepted)
    redis.call('HINCRBY', manifest, '#tokens', owed)
    redis.call('HINCRBY', manifest, '#bytes', bytes)
  end
end
redis.call('HSET', manifest, '#sealed', '1')
redis.call('PEXPIRE', manifest, ARGV[6])
if restored > 0 then
  redis.call('PEXPIRE', slot, math.max(1, deadline - now) + tonumber(ARGV[5]))
end
return {restored, taken, elsewhere, settled}
