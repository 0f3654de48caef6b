#!lua flags=allow-oom
-- Takes named requests into a batch, wherever they stand in their queues; what is not waiting any more is left out.
-- KEYS[1] load of the lane (hash)   KEYS[2] manifest (hash)
-- ARGV[1] lane prefix   ARGV[2] time to live of the manifest (ms)
-- ARGV[3] bytes, ARGV[4] tokens that a line adds to its request   ARGV[5..] per request: producer, id
-- RETURNS requests taken
-- COST O(n) for n requests
-- INVARIANT each claimed request is in exactly one manifest and its header says `c`; its queue entry is stale from now on
local load, manifest = KEYS[1], KEYS[2]
local prefix, wrap, wrap_tokens = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local is = redis.call('HMGET', manifest, '#open', '#sealed')
if is[2] or not is[1] then
  return 0
end
local taken, earliest = 0, tonumber(redis.call('HGET', manifest, '#deadline') or nil)
for i = 5, #ARGV, 2 do
  local producer, id = ARGV[i], ARGV[i + 1]
  local key = prefix .. 'p:' .. producer .. ':req:' .. id
  local head = redis.call('GETRANGE', key, 0, 159)
  if string.sub(head, 1, 1) == 'w' then
    local due, t, b, priority = string.match(head, '^[^|]*|(%d+)|(%d+)|(%d+)|(%a)\n')
    redis.call('SETRANGE', key, 0, 'c')
    local accepted, tokens, bytes = string.sub(head, 53, 65), tonumber(t) + wrap_tokens, tonumber(b) + wrap
    redis.call('HSET', manifest, producer .. ':' .. id, string.format('%.0f|%.0f|%s', tokens, bytes, accepted))
    redis.call('HINCRBY', manifest, '#tokens', tokens)
    redis.call('HINCRBY', manifest, '#bytes', bytes)
    redis.call('HINCRBY', load, 'waiting_requests:' .. priority, -1)
    redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, -tonumber(t))
    if not earliest or tonumber(due) < earliest then earliest = tonumber(due) end
    taken = taken + 1
  end
end
if taken > 0 then
  redis.call('HSET', manifest, '#deadline', string.format('%.0f', earliest))
  redis.call('PEXPIRE', manifest, ARGV[2])
end
return taken
