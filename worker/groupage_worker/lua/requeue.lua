#!lua flags=allow-oom
-- Gives requests of a batch back to the head of their queues.
-- KEYS[1] load of the lane (hash)   KEYS[2] manifest (hash)
-- ARGV[1] lane prefix   ARGV[2] attempts to add (0 when the batch is to blame, 1 when the line was)
-- ARGV[3..] per request: producer, id
-- RETURNS {requeued, settled before or not owed by this batch}
-- COST O(n log p) for n requests and p producers
-- INVARIANT a request is waiting or in one manifest, never both; a repeated call changes nothing.
--   It may run above maxmemory: it moves entries and frees the manifest.
local load, manifest = KEYS[1], KEYS[2]
local prefix, add = ARGV[1], tonumber(ARGV[2])
local requeued, gone = 0, 0
-- backwards, so that the first of the page ends up at the head
for i = #ARGV - 1, 3, -2 do
  local producer, id = ARGV[i], ARGV[i + 1]
  local base, field = prefix .. 'p:' .. producer .. ':', producer .. ':' .. id
  local key, owed = base .. 'req:' .. id, redis.call('HGET', manifest, field)
  local head = owed and redis.call('GETRANGE', key, 0, 159) or ''
  if owed then
    redis.call('HDEL', manifest, field)
    local t, b = string.match(owed, '^(%d+)|(%d+)')
    redis.call('HINCRBY', manifest, '#tokens', -tonumber(t))
    redis.call('HINCRBY', manifest, '#bytes', -tonumber(b))
  end
  if string.sub(head, 1, 1) == 'c' and string.sub(head, 53, 65) == string.sub(owed, -13) then
    local accepted = string.sub(head, 53, 65)
    local tokens, bytes, priority = string.match(head, '^[^|]*|%d+|(%d+)|(%d+)|(%a)\n')
    redis.call('SETRANGE', key, 0, 'w')
    if add > 0 then
      redis.call('SETRANGE', key, 2, string.format('%02d', math.min(99, tonumber(string.sub(head, 3, 4)) + add)))
    end
    redis.call('LPUSH', base .. 'q:' .. priority, table.concat({id, tokens, bytes, accepted}, '|'))
    local ready = prefix .. 'ready:' .. priority
    local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
    redis.call('ZADD', ready, 'NX', first[2] or '0', producer)
    redis.call('HINCRBY', load, 'waiting_requests:' .. priority, 1)
    redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, tonumber(tokens))
    requeued = requeued + 1
  else
    gone = gone + 1
  end
end
return {requeued, gone}
