-- Moves a deadline in one round trip. It does only what is plain; for all else it answers {'slow'} with nothing changed, and the
-- caller finds out by reading what is in the way.
-- KEYS: record, counter, deadlines. ARGV: id, the new deadline (µs), the time ('' for the server's, else µs), start of the mirror keys,
-- channel for the deadlines, schema, tenant ('*' for any).
local have = redis.call('HMGET', KEYS[1], 'v', 'f', 'n', 'x', 'z', 't', 'b', 'a', 'p', 'c')
local version = have[1]
if not version or have[2] ~= '' or have[5] ~= ARGV[6] then return {'slow'} end
if ARGV[7] ~= '*' and have[6] ~= ARGV[7] then return {'slow'} end
local now = tonumber(ARGV[3])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local at = tonumber(ARGV[2])
if at <= now then return {'slow'} end
if have[4] ~= ARGV[2] then
  local earliest = false
  if at < tonumber(have[4]) then
    local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
    earliest = not head or at < tonumber(head)
  end
  -- %.0f writes numbers below 2^53 exactly; tostring would not.
  version = string.format('%.0f', tonumber(version) + 1)
  redis.call('HINCRBY', KEYS[2], 'changes', 1)
  redis.call('HSET', KEYS[1], 'x', ARGV[2], 'v', version)
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
  if have[3] ~= '' then redis.call('ZADD', ARGV[4] .. have[3], 0, ARGV[1]) end
  if earliest then redis.call('PUBLISH', ARGV[5], '') end
end
return {'ok', {have[7], ARGV[2], have[8], version, have[9], have[5], have[10]}}
