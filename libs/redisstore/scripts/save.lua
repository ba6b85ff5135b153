-- Writes one record with everything that follows from it, or nothing.
--
-- KEYS[1] is the record (any key of the cell when no record is written), KEYS[2] the counter, KEYS[3] the deadlines, KEYS[4] the
-- attention times; the rest are named by number in ARGV.
-- ARGV, in this order:
--   version      the version that the writer has read, '0' for a record that must not exist yet, or '-' for no record
--   name         of the call, '' for none: when the client sends a call anew because its answer was lost, it finds what it did itself
--   guards       count, then for each a key, the number of its fields, the fields, and the value that each must have: '' means that it is
--                missing, '>n' a number of n or more
--   room         '0', or '1' and what room() reads
--   record       body, deadline, accepted, flags, node, ports and schema, unless version is '-'
--   deadline, attention   the new times if they are earlier than the record's own were, else ''
--   operations   count, then each with its arguments
--   deadline     the channel for hints about deadlines
--   hints        count, then (channel, message) each
-- Answers {'ok', ports}, or {reason, …} with nothing changed. Amounts and times are compared as numbers and never written as such:
-- Lua would round them. Only versions are, by %.0f, which is exact below 2^53.
local at = 0
local function arg() at = at + 1; return ARGV[at] end
local function key() return KEYS[tonumber(arg())] end

local version, name = arg(), arg()
if version ~= '-' then
  local present = redis.call('HMGET', KEYS[1], 'v', 'w', 'p')
  if not present[1] and version ~= '0' then return {'missing'} end
  if (present[1] or '0') ~= version then
    if present[2] == name then return {'ok', present[3]} end
    return {'moved'}
  end
end
local function holds(have, want)
  local least = string.match(want, '^>(%d+)$')
  if least then return tonumber(have or '0') >= tonumber(least) end
  return (have or '') == want
end
for _ = 1, tonumber(arg()) do
  local k, fields = key(), {}
  for i = 1, tonumber(arg()) do fields[i] = arg() end
  local have = redis.call('HMGET', k, unpack(fields))
  for i, field in ipairs(fields) do
    if not holds(have[i], arg()) then
      if version == '-' and name ~= '' and redis.call('HGET', KEYS[2], 'by') == name then return {'ok', ''} end
      return {'guard', field}
    end
  end
end

-- hold notes what a holder has, and adds it up.
local function hold(used, holds, holder, cpu, memory, ports)
  redis.call('HSET', holds, holder, cpu .. ' ' .. memory .. ' ' .. ports)
  redis.call('HINCRBY', used, 'count', 1)
  if cpu ~= '0' then redis.call('HINCRBY', used, 'cpu', cpu) end
  if memory ~= '0' then redis.call('HINCRBY', used, 'memory', memory) end
end

-- room looks for what a placement needs on one node. It only reads; take() follows once all guards hold.
local take
local ports = nil
local function room()
  local used, holds, leases, barred = key(), key(), key(), key()
  local holder, cpu, memory = arg(), arg(), arg()
  local most, cpus, memories = tonumber(arg()), tonumber(arg()), tonumber(arg())
  local low, high, start, now = tonumber(arg()), tonumber(arg()), tonumber(arg()), tonumber(arg())
  local kept, given = arg(), {}
  local inside = {}
  for i = 1, tonumber(arg()) do inside[i] = arg() end
  local anew = arg() == '1'
  if anew then
    local have = redis.call('HMGET', used, 'count', 'cpu', 'memory')
    if most > 0 and tonumber(have[1] or '0') >= most then return 'full' end
    if cpus > 0 and tonumber(cpu) > 0 and tonumber(have[2] or '0') + tonumber(cpu) > cpus then return 'full' end
    if memories > 0 and tonumber(memory) > 0 and tonumber(have[3] or '0') + tonumber(memory) > memories then return 'full' end
  end
  -- The first ports that are looked at are free unless the range is crowded; then many are looked at in one go.
  local size, at, some = high - low + 1, 0, #inside
  while #given < #inside and at < size do
    local tried = {}
    for i = 1, math.min(some, size - at) do tried[i] = string.format('%d', low + (start + at + i - 1) % size) end
    local leased, till = redis.call('HMGET', leases, unpack(tried)), redis.call('HMGET', barred, unpack(tried))
    for i, port in ipairs(tried) do
      if #given < #inside and not leased[i] and (not till[i] or tonumber(till[i]) <= now) then given[#given + 1] = port end
    end
    at, some = at + #tried, 100
  end
  if #given < #inside then return 'ports' end
  local pairs_, numbers = {}, {}
  if kept ~= '' then pairs_[1] = kept end
  for i, port in ipairs(given) do pairs_[#pairs_ + 1] = inside[i] .. '=' .. port end
  ports = table.concat(pairs_, ',')
  take = function()
    local leased = {}
    for _, port in ipairs(given) do
      leased[#leased + 1] = port
      leased[#leased + 1] = holder
    end
    if #leased > 0 then redis.call('HSET', leases, unpack(leased)) end
    if anew then
      for port in string.gmatch(ports, '=(%d+)') do numbers[#numbers + 1] = port end
      hold(used, holds, holder, cpu, memory, table.concat(numbers, ','))
    end
  end
  return nil
end
if arg() == '1' then
  local short = room()
  if short then return {short} end
end

-- From here on everything succeeds.
local since = redis.call('HINCRBY', KEYS[2], 'changes', 1)
if version ~= '-' then
  local fields = {'b', arg(), 'x', arg(), 'a', arg(), 'f', arg(), 'n', arg(), 'p', arg(), 'z', arg(), 'w', name,
    'v', string.format('%.0f', tonumber(version) + 1)}
  if ports then fields[12] = ports end
  redis.call('HSET', KEYS[1], unpack(fields))
elseif name ~= '' then
  redis.call('HSET', KEYS[2], 'by', name)
end
if take then take() end

local earlier = false
for _, k in ipairs({KEYS[3], KEYS[4]}) do
  local new = arg()
  if new ~= '' then
    local head = redis.call('ZRANGE', k, 0, 0, 'WITHSCORES')[2]
    if not head or tonumber(new) < tonumber(head) then earlier = true end
  end
end

local function lessen(used, cpu, memory)
  if cpu ~= '0' then redis.call('HINCRBY', used, 'cpu', '-' .. cpu) end
  if memory ~= '0' then redis.call('HINCRBY', used, 'memory', '-' .. memory) end
end

local operations = {
  zadd = function() redis.call('ZADD', key(), arg(), arg()) end,
  zrem = function() redis.call('ZREM', key(), arg()) end,
  hset = function() redis.call('HSET', key(), arg(), arg()) end,
  hdel = function() redis.call('HDEL', key(), arg()) end,
  del = function() redis.call('DEL', key()) end,
  incr = function() redis.call('HINCRBY', key(), arg(), 1) end,
  -- count keeps no fields of 0, so that the hash does not grow with every node that there ever was.
  count = function()
    local k, field, by = key(), arg(), arg()
    if redis.call('HINCRBY', k, field, by) <= 0 then redis.call('HDEL', k, field) end
  end,
  work = function() redis.call('ZADD', key(), since, arg()) end,
  -- idle keeps count and ports of a holder and frees its processor and memory.
  idle = function()
    local used, holds, holder = key(), key(), arg()
    local cpu, memory, held = string.match(redis.call('HGET', holds, holder) or '', '^(%d+) (%d+) (.*)$')
    if cpu then
      lessen(used, cpu, memory)
      redis.call('HSET', holds, holder, '0 0 ' .. held)
    end
  end,
  -- swap gives a lease back, bars its port and notes the new one with the holder.
  swap = function()
    local holds, leases, barred, holder, taken, till = key(), key(), key(), arg(), arg(), arg()
    redis.call('HDEL', leases, taken)
    redis.call('HSET', barred, taken, till)
    local cpu, memory = string.match(redis.call('HGET', holds, holder) or '', '^(%d+) (%d+) ')
    if cpu then
      local numbers = {}
      for port in string.gmatch(ports, '=(%d+)') do numbers[#numbers + 1] = port end
      redis.call('HSET', holds, holder, cpu .. ' ' .. memory .. ' ' .. table.concat(numbers, ','))
    end
  end,
  -- raise brings a number up to another.
  raise = function()
    local k, field, to = key(), arg(), arg()
    if tonumber(redis.call('HGET', k, field) or '0') < tonumber(to) then redis.call('HSET', k, field, to) end
  end,
  -- seize notes what a holder has without having asked. A port that somebody else has leased stays theirs.
  seize = function()
    local used, holds, leases, holder, cpu, memory, wanted = key(), key(), key(), arg(), arg(), arg(), arg()
    if redis.call('HEXISTS', holds, holder) == 1 then return end
    local numbers = {}
    for port in string.gmatch(wanted, '%d+') do
      if redis.call('HSETNX', leases, port, holder) == 1 or redis.call('HGET', leases, port) == holder then numbers[#numbers + 1] = port end
    end
    hold(used, holds, holder, cpu, memory, table.concat(numbers, ','))
  end,
  free = function()
    local used, holds, leases, holder = key(), key(), key(), arg()
    local cpu, memory, held = string.match(redis.call('HGET', holds, holder) or '', '^(%d+) (%d+) (.*)$')
    if cpu then
      redis.call('HDEL', holds, holder)
      redis.call('HINCRBY', used, 'count', -1)
      lessen(used, cpu, memory)
      for port in string.gmatch(held, '%d+') do
        if redis.call('HGET', leases, port) == holder then redis.call('HDEL', leases, port) end
      end
    end
  end,
}
for _ = 1, tonumber(arg()) do operations[arg()]() end

local deadline = arg()
if earlier then redis.call('PUBLISH', deadline, '') end
for _ = 1, tonumber(arg()) do redis.call('PUBLISH', arg(), arg()) end
return {'ok', ports or ''}
