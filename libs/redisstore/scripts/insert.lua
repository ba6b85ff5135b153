-- Adds a record at the time of the server, with the indexes that a new record is in, and the idempotency key that leads to it.
-- KEYS: record, counter, deadlines, counts, idempotency key (any key of the cell when there is none), secret, then each set that is ordered
-- by the time of creation.
-- ARGV: id, body, accepted, flags, life time (µs; '' for none), schema, channels for placement and deadlines, the time ('' for the
-- server's, else µs), tenant,
-- name of the call, field of the counts, then of the idempotency key: its life time (ms; '' for no key), its hash, the id that it may lead
-- to and is replaced all the same, and what stands before the id in the name of a record; last the secret ('' for none).
-- Answers {'ok', creation, deadline}, {'exists'}, or {'held', hash, id, record} when the key leads to another record.
-- %.0f writes numbers below 2^53 exactly; tostring would not.
local present = redis.call('HMGET', KEYS[1], 'v', 'w', 'c', 'x')
if present[1] then
  -- The same call again, sent anew because its answer was lost.
  if present[2] == ARGV[11] then return {'ok', present[3], present[4]} end
  return {'exists'}
end
local now = tonumber(ARGV[9])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
if ARGV[13] ~= '' then
  local held = redis.call('HMGET', KEYS[5], 'h', 'i', 'u')
  if held[2] and held[2] ~= ARGV[15] and now < tonumber(held[3]) then
    return {'held', held[1], held[2], redis.call('HMGET', ARGV[16] .. held[2], 'b', 'x', 'a', 'v', 'p', 'z', 'c')}
  end
  redis.call('HSET', KEYS[5], 'h', ARGV[14], 'i', ARGV[1], 'u', string.format('%.0f', now + tonumber(ARGV[13]) * 1000))
  redis.call('PEXPIRE', KEYS[5], ARGV[13])
end
-- No record is older than its store, also when the clock was set back.
local created, deadline = string.format('%.0f', math.max(now, tonumber(redis.call('HGET', KEYS[2], 'made') or '0'))), ''
redis.call('HINCRBY', KEYS[2], 'changes', 1)
if ARGV[5] ~= '' then
  deadline = string.format('%.0f', now + tonumber(ARGV[5]))
  local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
  if not head or tonumber(deadline) < tonumber(head) then redis.call('PUBLISH', ARGV[8], '') end
  redis.call('ZADD', KEYS[3], deadline, ARGV[1])
end
redis.call('HSET', KEYS[1], 'v', '1', 'c', created, 'b', ARGV[2], 'x', deadline, 'a', ARGV[3], 'f', ARGV[4], 'n', '', 'p', '', 'z', ARGV[6],
  't', ARGV[10], 'w', ARGV[11])
redis.call('HINCRBY', KEYS[4], ARGV[12], 1)
if ARGV[17] ~= '' then redis.call('SET', KEYS[6], ARGV[17]) end
for i = 7, #KEYS do redis.call('ZADD', KEYS[i], created, ARGV[1]) end
redis.call('PUBLISH', ARGV[7], '')
return {'ok', created, deadline}
