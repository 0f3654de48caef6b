#!lua flags=allow-oom
-- Writes the one terminal reply of each request, frees its body, and takes it off the batch that owed the reply.
-- KEYS[1] load of the lane (hash)   KEYS[2] manifest of the batch (hash); absent: whoever holds the request
-- ARGV[1] lane prefix   ARGV[2] now (Unix ms)   ARGV[3] time to live of replies (ms)
-- ARGV[4] per request, packed as 'Bc0Bc0Bc0': producer, id, status, each behind its length
-- ARGV[5..] per request: its reply (JSON)
-- RETURNS per request one string: s<client><accepted_at_ms><deadline_at_ms> settled now; d settled before; o open, but owed by
--   another batch or accepted anew; u unknown
-- COST O(n) for n requests
-- INVARIANT a reply is written at most once and never changes; submitted_total = open_requests + settled_total;
--   reply_bytes and the hours of `kept` count each reply that is written.
--   It may run above maxmemory, because it frees more than it writes as a rule, and the way out must stay open.
--   A user that lacks a right writes nothing.
-- include rights

local load, manifest = KEYS[1], KEYS[2]
local prefix, now, ttl = ARGV[1], ARGV[2], ARGV[3]

local out, producers, statuses = {}, {}, {}
local waiting_n, waiting_t = {}, {}
-- the hour at whose beginning these replies have expired
local hour = math.floor((tonumber(now) + tonumber(ttl)) / 3600000) + 1
local total, total_bytes, total_tokens = 0, 0, 0

-- what the batch owes of these, asked once for all of them
local index, at, n = ARGV[4], 1, 0
local whose, ids, ends, names, owes, paid, paid_tokens, paid_bytes = {}, {}, {}, {}, {}, {}, 0, 0
while at <= #index do
  n = n + 1
  whose[n], ids[n], ends[n], at = struct.unpack('Bc0Bc0Bc0', index, at)
  names[n] = whose[n] .. ':' .. ids[n]
end
for from = 1, manifest and #names or 0, 1000 do
  for i, value in ipairs(redis.call('HMGET', manifest, unpack(names, from, math.min(from + 999, #names)))) do
    owes[names[from + i - 1]] = value
  end
end

local first = prefix .. 'p:' .. (whose[1] or '') .. ':'
must_be_allowed('GETRANGE', first .. 'req:', 0, 0)
must_be_allowed('EXISTS', first .. 'rep:')
must_be_allowed('SET', first .. 'rep:', '', 'NX', 'PX', 1)
must_be_allowed('UNLINK', first .. 'req:')
must_be_allowed('HINCRBY', load, '', 0)
must_be_allowed('HINCRBY', first .. 'load', '', 0)
must_be_allowed('HINCRBY', first .. 'kept', '', 0)
must_be_allowed('PEXPIRE', first .. 'kept', 1)
if manifest then
  must_be_allowed('HDEL', manifest, '')
  must_be_allowed('HINCRBY', manifest, '', 0)
end

local freed, is_freed = {}, {}
for i = 1, n do
  local producer, id, status = whose[i], ids[i], ends[i]
  local base = prefix .. 'p:' .. producer .. ':'
  local key, reply, code, name = base .. 'req:' .. id, base .. 'rep:' .. id, nil, names[i]
  local owed = owes[name]
  if owed then
    local t, b = string.match(owed, '^(%d+)|(%d+)')
    owes[name] = nil
    paid[#paid + 1] = name
    paid_tokens, paid_bytes = paid_tokens + t, paid_bytes + b
  end
  local head = is_freed[key] and '' or redis.call('GETRANGE', key, 0, 159)
  local accepted = string.sub(head, 53, 65)
  -- an id may have been settled and accepted anew, with another body, since this batch took it
  local ours = head ~= '' and (not manifest or (owed and string.sub(owed, -13) == accepted))
  if not ours then
    if owed or redis.call('EXISTS', reply) == 1 then
      code = 'd'
    else
      code = head ~= '' and 'o' or 'u'
    end
  else
    local deadline, tokens, bytes, priority = string.match(head, '^|(%d+)|(%d+)|(%d+)|(%a)\n', 66)
    -- the clocks of machines differ: nothing is settled before it was accepted
    local settled = accepted > now and accepted or now
    local value = string.sub(head, 5, 36) .. '|' .. status .. '|' .. accepted .. '|' .. settled .. '|' ..
      tonumber(string.sub(head, 3, 4)) .. '\n' .. ARGV[4 + i]
    redis.call('SET', reply, value, 'NX', 'PX', ttl)
    freed[#freed + 1] = key
    is_freed[key] = true
    if string.sub(head, 1, 1) == 'w' then
      waiting_n[priority] = (waiting_n[priority] or 0) + 1
      waiting_t[priority] = (waiting_t[priority] or 0) + tokens
    end
    local p = producers[producer]
    if not p then
      p = {0, 0, 0, 0}
      producers[producer] = p
    end
    p[1], p[2], p[3], p[4] = p[1] + 1, p[2] + bytes, p[3] + tokens, p[4] + #value
    statuses[status] = (statuses[status] or 0) + 1
    total, total_bytes, total_tokens = total + 1, total_bytes + bytes, total_tokens + tokens
    code = 's' .. string.sub(head, 37, 52) .. accepted .. deadline
  end
  out[i] = code
end

if #paid > 0 then
  for from = 1, #paid, 1000 do
    redis.call('HDEL', manifest, unpack(paid, from, math.min(from + 999, #paid)))
  end
  redis.call('HINCRBY', manifest, '#tokens', -paid_tokens)
  redis.call('HINCRBY', manifest, '#bytes', -paid_bytes)
end
for from = 1, #freed, 1000 do
  redis.call('UNLINK', unpack(freed, from, math.min(from + 999, #freed)))
end
if total > 0 then
  redis.call('HINCRBY', load, 'open_requests', -total)
  redis.call('HINCRBY', load, 'open_bytes', -total_bytes)
  redis.call('HINCRBY', load, 'open_tokens', -total_tokens)
  redis.call('HINCRBY', load, 'settled_total', total)
  for status, n in pairs(statuses) do
    redis.call('HINCRBY', load, 'settled:' .. status, n)
  end
  for priority, n in pairs(waiting_n) do
    redis.call('HINCRBY', load, 'waiting_requests:' .. priority, -n)
    redis.call('HINCRBY', load, 'waiting_tokens:' .. priority, -waiting_t[priority])
  end
  for producer, p in pairs(producers) do
    local key = prefix .. 'p:' .. producer .. ':load'
    redis.call('HINCRBY', key, 'open_requests', -p[1])
    redis.call('HINCRBY', key, 'open_bytes', -p[2])
    redis.call('HINCRBY', key, 'open_tokens', -p[3])
    redis.call('HINCRBY', key, 'settled_total', p[1])
    redis.call('HINCRBY', key, 'reply_bytes', p[4])
    local kept = prefix .. 'p:' .. producer .. ':kept'
    redis.call('HINCRBY', kept, hour, p[4])
    redis.call('PEXPIRE', kept, string.format('%.0f', tonumber(ttl) + 7200000))
  end
end
return out
