#!lua
-- Accepts requests of one producer into one lane and priority, each at most once by id and body.
-- KEYS[1] load of the lane (hash)            KEYS[2] load of the producer (hash)
-- KEYS[3] ready of lane and priority (zset)  KEYS[4] queue of the producer (list)
-- ARGV[1] lane prefix       ARGV[2] producer   ARGV[3] now (Unix ms)
-- ARGV[4] slot width (ms)   ARGV[5] time to live after the deadline (ms)   ARGV[6] priority (one character)
-- ARGV[7] per request, packed as '<ddI4Bc0': deadline (Unix ms), tokens, bytes of its body, length of its id, id
-- ARGV[8..] per request: its value (header and body)
-- RETURNS {codes, limit name, value, limit}; one character of codes per request:
--   a accepted, k known and open, s known and settled, c conflict, o over a limit
-- COST O(n) for n requests; asking for the rights takes 5 us a call (Valkey, 2026-11-21)
-- INVARIANT submitted_total = open_requests + settled_total; open_requests, open_bytes and open_tokens are the sums over the
--   request keys, of the lane and of the producer, and no accept brings one of them above its limit; a producer whose
--   replies take more than max_producer_reply_bytes is accepted from again once they were discarded or have expired;
--   a user that lacks a right writes nothing
-- include rights

local function first_broken(limits)
  for _, one in ipairs(limits) do
    if one[2] > one[3] then return one end
  end
end

-- bytes of replies that have not expired yet; only looked at when the running sum is too large
local function live_replies(key, now)
  must_be_allowed('HDEL', key, '')
  local live, hours = 0, redis.call('HGETALL', key)
  for i = 1, #hours, 2 do
    if tonumber(hours[i]) * 3600000 <= now then
      redis.call('HDEL', key, hours[i])
    else
      live = live + tonumber(hours[i + 1])
    end
  end
  return live
end

local load, producer_load, ready, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, producer, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local slot_ms, orphan_ms, priority = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local base, due = prefix .. 'p:' .. producer .. ':', prefix .. 'due:'
local index, at, request, reply = ARGV[7], 1, base .. 'req:', base .. 'rep:'
must_be_allowed('EXISTS', reply)
must_be_allowed('SET', request, '', 'NX', 'PX', 1)
must_be_allowed('GETRANGE', request, 0, 0)
must_be_allowed('GETRANGE', reply, 0, 0)
must_be_allowed('UNLINK', request)
must_be_allowed('RPUSH', queue, '')
must_be_allowed('RPUSH', due, '')
must_be_allowed('PEXPIRE', due, 1)
must_be_allowed('ZRANGE', ready, 0, 0)
must_be_allowed('ZADD', ready, 0, '')
must_be_allowed('HINCRBY', load, '', 0)
must_be_allowed('HINCRBY', producer_load, '', 0)

local l = redis.call('HMGET', load, 'open_requests', 'max_open_requests', 'open_bytes', 'max_open_bytes', 'open_tokens',
  'max_open_tokens', 'max_producer_requests', 'max_producer_bytes', 'max_producer_tokens', 'due_cursor', 'refused',
  'max_producer_reply_bytes')
local m = redis.call('HMGET', producer_load, 'open_requests', 'open_bytes', 'open_tokens', 'reply_bytes')
local first_slot, refused = tonumber(l[10] or 0) + 1, l[11] and {l[11], 1, 0}
local open, max_open = tonumber(l[1] or 0), tonumber(l[2] or 1e15)
local bytes, max_bytes = tonumber(l[3] or 0), tonumber(l[4] or 1e15)
local tokens, max_tokens = tonumber(l[5] or 0), tonumber(l[6] or 1e15)
local my_open, my_max_open = tonumber(m[1] or 0), tonumber(l[7] or 1e15)
local my_bytes, my_max_bytes = tonumber(m[2] or 0), tonumber(l[8] or 1e15)
local my_tokens, my_max_tokens = tonumber(m[3] or 0), tonumber(l[9] or 1e15)
-- what still fits; only when something does not, the limit it breaks is looked for
local room_n = math.min(max_open - open, my_max_open - my_open)
local room_b = math.min(max_bytes - bytes, my_max_bytes - my_bytes)
local room_t = math.min(max_tokens - tokens, my_max_tokens - my_tokens)
if l[12] and tonumber(m[4] or 0) > tonumber(l[12]) then
  must_be_allowed('HSET', producer_load, '', 0)
  local kept = live_replies(base .. 'kept', now)
  redis.call('HSET', producer_load, 'reply_bytes', kept)
  if kept > tonumber(l[12]) then refused = {'producer_reply_bytes', kept, tonumber(l[12])} end
end

local replies, n_settled = {}, 0
while at <= #index do
  local id
  -- behind the three numbers
  id, at = struct.unpack('Bc0', index, at + 20)
  replies[#replies + 1] = reply .. id
end
-- asked once for all of them: most are new, and a command for each took a fifth of the whole
for from = 1, #replies, 1000 do
  n_settled = n_settled + redis.call('EXISTS', unpack(replies, from, math.min(from + 999, #replies)))
end

local codes, entries, slots, over, seen, ttl, names = {}, {}, {}, {'', 0, 0}, nil, nil, nil
local n, n_new, n_tokens, n_bytes = 0, 0, 0, 0
at = 1
while at <= #index do
  local value, deadline, t, size, id = ARGV[8 + n], nil, nil, nil, nil
  deadline, t, size, id, at = struct.unpack('<ddI4Bc0', index, at)
  if deadline ~= seen then
    -- most requests of a call have the same
    seen, ttl = deadline, string.format('%.0f', math.max(1, deadline - now) + orphan_ms)
    local slot = math.max(first_slot, math.floor(deadline / slot_ms))
    slots[slot] = slots[slot] or {}
    names = slots[slot]
  end
  local key, code, known = request .. id, 'o', ''
  local fits = not refused and n_new < room_n and n_bytes + size <= room_b and n_tokens + t <= room_t
  if fits and redis.call('SET', key, value, 'NX', 'PX', ttl) then
    code = 'a'
  else
    known = redis.call('GETRANGE', key, 4, 35)
  end
  local digest = known ~= '' and string.sub(value, 5, 36)
  if digest then
    code = known == digest and 'k' or 'c'
  else
    known = n_settled > 0 and redis.call('GETRANGE', replies[n + 1], 0, 31) or ''
    if known ~= '' then
      if code == 'a' then redis.call('UNLINK', key) end
      code = known == string.sub(value, 5, 36) and 's' or 'c'
    elseif code == 'a' then
      n_new, n_tokens, n_bytes = n_new + 1, n_tokens + t, n_bytes + size
      entries[n_new] = string.format('%s|%.0f|%d|%s', id, t, size, string.sub(value, 53, 65))
      names[#names + 1] = producer .. ':' .. id
    elseif refused then
      over = refused
    else
      over = first_broken({
        {'open_requests', open + n_new + 1, max_open}, {'open_bytes', bytes + n_bytes + size, max_bytes},
        {'open_tokens', tokens + n_tokens + t, max_tokens}, {'producer_requests', my_open + n_new + 1, my_max_open},
        {'producer_bytes', my_bytes + n_bytes + size, my_max_bytes},
        {'producer_tokens', my_tokens + n_tokens + t, my_max_tokens}})
    end
  end
  n = n + 1
  codes[n] = code
end

if n_new > 0 then
  for from = 1, n_new, 1000 do
    redis.call('RPUSH', queue, unpack(entries, from, math.min(from + 999, n_new)))
  end
  for slot, names in pairs(slots) do
    local key = due .. string.format('%.0f', slot)
    for from = 1, #names, 1000 do
      redis.call('RPUSH', key, unpack(names, from, math.min(from + 999, #names)))
    end
    redis.call('PEXPIRE', key, math.max(1, slot * slot_ms - now) + orphan_ms)
  end
  -- whoever comes back after a pause starts at the smallest virtual time, or it would starve the others
  local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
  redis.call('ZADD', ready, 'NX', first[2] or '0', producer)
  redis.call('HINCRBY', load, 'open_requests', n_new)
  redis.call('HINCRBY', load, 'open_bytes', n_bytes)
  redis.call('HINCRBY', load, 'open_tokens', n_tokens)
  redis.call('HINCRBY', load, 'submitted_total', n_new)
  redis.call('HINCRBY', load, 'waiting_requests:' .. priority, n_new)
  redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, n_tokens)
  redis.call('HINCRBY', producer_load, 'open_requests', n_new)
  redis.call('HINCRBY', producer_load, 'open_bytes', n_bytes)
  redis.call('HINCRBY', producer_load, 'open_tokens', n_tokens)
  redis.call('HINCRBY', producer_load, 'submitted_total', n_new)
end
return {table.concat(codes), over[1], over[2], over[3]}
