-- Forgets records that ended before a time. KEYS: the set of ended records, the counter, then each record and its secret, which went with
-- the record's end unless an older program wrote that. ARGV: the time (µs), then made and changes as in the guards of save.lua, '' for none,
-- then the ids. Answers -1 when the store is being recovered or is behind.
local mark = redis.call('HMGET', KEYS[2], 'recovering', 'made', 'changes')
if (mark[1] or '') ~= '' then return -1 end
if ARGV[2] ~= '' and ((mark[2] or '') ~= ARGV[2] or tonumber(mark[3] or '0') < tonumber(ARGV[3])) then return -1 end
local gone = 0
for i = 4, #ARGV do
  local ended = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ended and tonumber(ended) < tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[2 * i - 5], KEYS[2 * i - 4])
    redis.call('ZREM', KEYS[1], ARGV[i])
    gone = gone + 1
  end
end
if gone > 0 then redis.call('HINCRBY', KEYS[2], 'changes', 1) end
return gone
