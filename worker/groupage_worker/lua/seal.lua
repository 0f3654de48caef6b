#!lua flags=allow-oom
-- Closes a batch to new requests.
-- KEYS[1] manifest (hash)
-- ARGV[1] time to live of the manifest (ms)
-- RETURNS {requests, tokens, bytes}
-- COST O(1)
-- INVARIANT no claim adds to a sealed manifest, however late it comes
local manifest = KEYS[1]
redis.call('HSET', manifest, '#sealed', '1')
redis.call('HDEL', manifest, '#open')
redis.call('PEXPIRE', manifest, ARGV[1])
local sums, n = redis.call('HMGET', manifest, '#tokens', '#bytes'), 0
n = redis.call('HLEN', manifest) - 1 - (sums[1] and 1 or 0) - (sums[2] and 1 or 0)
  - redis.call('HEXISTS', manifest, '#deadline')
return {n, tonumber(sums[1] or 0), tonumber(sums[2] or 0)}
