#!lua flags=allow-oom
-- Keeps what one look at the service's list says of batches in flight: progress, and when their own steps are due.
-- KEYS[1] due:light (zset)   KEYS[2..] batches (hashes)
-- ARGV[1] now   ARGV[2] due of whoever needs no look of its own until then (both Unix ms)
-- ARGV[3..] for each batch: step name, remote id, lines done, and latest due (Unix ms), 0: none
-- RETURNS for each batch: 1 its step is due earlier than before, else 0
-- COST O(n log d) for n batches and d due steps
-- INVARIANT only batches that are still submitted under this remote id change; whoever is due already stays due, so a
--   wish that came meanwhile is not put off; lines done only grow
local light, now, later = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local earlier = {}
for i = 2, #KEYS do
  local at = 4 * i - 5
  local step, remote, done, latest = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local held = redis.call('HMGET', KEYS[i], 'state', 'remote_id', 'done_lines')
  local due = tonumber(redis.call('ZSCORE', light, step))
  earlier[i - 1] = 0
  if held[1] == 'submitted' and held[2] == remote then
    if done > tonumber(held[3] or 0) then
      redis.call('HSET', KEYS[i], 'done_lines', done)
    end
    if due and latest == 0 and due > now and due < later then
      redis.call('ZADD', light, 'XX', later, step)
    elseif due and latest > 0 and due > latest then
      redis.call('ZADD', light, 'XX', latest, step)
      earlier[i - 1] = 1
    end
  end
end
return earlier
