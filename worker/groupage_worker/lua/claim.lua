#!lua flags=allow-oom
-- Takes waiting requests of one lane and priority into a batch, producers in turn by tokens (deficit sharing).
-- KEYS[1] load of the lane (hash)   KEYS[2] ready of lane and priority (zset)   KEYS[3] manifest (hash)
-- ARGV[1] lane prefix   ARGV[2] priority (one character)   ARGV[3] most tokens   ARGV[4] most requests
-- ARGV[5] most file bytes   ARGV[6] tokens of one turn   ARGV[7] time to live of the manifest (ms)
-- ARGV[8] bytes, ARGV[9] tokens that a line adds to its body   ARGV[10..] producer, weight: only where it is not 1
-- RETURNS {requests, tokens, file bytes, why it stopped: empty | full | sealed | unopened | page}
-- COST O(n + p + s) for n requests of p producers and s stale entries, at most about 1000 of them a call
-- It may run above maxmemory: what it writes is small, and work that is not sent can never be freed.
-- INVARIANT each claimed request is in exactly one manifest and its header says `c`; sums of the manifest match, and its
--   earliest deadline is kept.
local load, ready, manifest = KEYS[1], KEYS[2], KEYS[3]
local prefix, priority = ARGV[1], ARGV[2]
local max_tokens, max_requests, max_bytes, turn = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local wrap, wrap_tokens, weights = tonumber(ARGV[8]), tonumber(ARGV[9]), {}
for i = 10, #ARGV, 2 do
  weights[ARGV[i]] = tonumber(ARGV[i + 1])
end
local is = redis.call('HMGET', manifest, '#open', '#sealed')
if is[2] or not is[1] then
  return {0, 0, 0, is[2] and 'sealed' or 'unopened'}
end

local n, tokens, bytes, n_full, full, fields, stale, deadline = 0, 0, 0, 0, {}, {}, 0, nil

-- one turn of one producer; returns the tokens it took and whether its head did not fit
local function serve(producer, allowance)
  local base = prefix .. 'p:' .. producer .. ':'
  local queue, spent, passed, fits = base .. 'q:' .. priority, 0, 0, true
  -- about as many as one turn takes; too few cost one more turn
  local most = math.min(63, n > 0 and math.ceil(allowance * n / math.max(1, tokens)) or 63)
  for _, entry in ipairs(redis.call('LRANGE', queue, 0, most)) do
    if n >= max_requests or spent >= allowance then break end
    local id, t, b, accepted = string.match(entry, '^([^|]+)|(%d+)|(%d+)|(%d+)')
    t, b = tonumber(t) + wrap_tokens, tonumber(b) + wrap
    local key = base .. 'req:' .. id
    -- an entry whose request was settled, claimed through another entry, or accepted anew is stale: drop it
    local head = redis.call('GETRANGE', key, 0, 78)
    if string.sub(head, 1, 1) == 'w' and string.sub(head, 53, 65) == accepted then
      if tokens + t > max_tokens or bytes + b > max_bytes then
        fits = false
        break
      end
      redis.call('SETRANGE', key, 0, 'c')
      local due = tonumber(string.sub(head, 67))
      if due and (not deadline or due < deadline) then deadline = due end
      fields[#fields + 1] = producer .. ':' .. id
      fields[#fields + 1] = string.format('%.0f|%.0f|%s', t, b, accepted)
      n, tokens, bytes, spent = n + 1, tokens + t, bytes + b, spent + t
    else
      stale = stale + 1
    end
    passed = passed + 1
  end
  if passed > 0 then
    redis.call('LTRIM', queue, passed, -1)
  end
  return spent, fits, redis.call('EXISTS', queue) == 0
end

local why = 'page'
while n < max_requests and stale < 1000 do
  local producer = nil
  for _, name in ipairs(redis.call('ZRANGE', ready, 0, n_full)) do
    if not full[name] then producer = name break end
  end
  if not producer then
    why = n_full > 0 and 'full' or 'empty'
    break
  end
  local weight = weights[producer] or 1
  local spent, fits, is_empty = serve(producer, turn * weight)
  if is_empty then
    redis.call('ZREM', ready, producer)
  elseif spent > 0 then
    redis.call('ZINCRBY', ready, spent / weight, producer)
  end
  if not fits then
    full[producer], n_full = true, n_full + 1
    if n_full >= 64 then why = 'full' break end
  end
end

if n > 0 then
  for from = 1, #fields, 1000 do
    redis.call('HSET', manifest, unpack(fields, from, math.min(from + 999, #fields)))
  end
  redis.call('HINCRBY', manifest, '#tokens', tokens)
  redis.call('HINCRBY', manifest, '#bytes', bytes)
  local earliest = tonumber(redis.call('HGET', manifest, '#deadline') or nil)
  if deadline and (not earliest or deadline < earliest) then
    redis.call('HSET', manifest, '#deadline', string.format('%.0f', deadline))
  end
  redis.call('PEXPIRE', manifest, ARGV[7])
  redis.call('HINCRBY', load, 'waiting_requests:' .. priority, -n)
  redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, n * wrap_tokens - tokens)
end
return {n, tokens, bytes, why}
