-- own.lua is called by each worker once a second. It renews the worker's lease, drops workers that are gone, and moves
-- shards. storetest/table.go implements the same in Go.
--
-- KEYS[1]  workers  hash: worker id -> its own counter, followed by ' s' while it is suspended. A suspended
--                   worker gets shards only if all workers are suspended
-- KEYS[2]  shards   hash: shard -> term, which is "worker counter"; version -> the term of
--                   the last change
-- KEYS[3]  events   stream
-- KEYS[4]  web      string: a counter that web processes raise
-- ARGV[1]  worker id
-- ARGV[2]  its counter: higher with every call
-- ARGV[3]  '1' if the worker stops, or only reads the table, else ''
-- ARGV[4]  the largest number of shards that it wants
-- ARGV[5]  '1' while it is suspended, else ''
-- ARGV[6]  the version of the table that it has; '' for none
-- ARGV[7]  channel that announces a change of the workers or shards
-- ARGV[8]  number of workers that are reported as gone; each is a pair in ARGV[9..]: id, counter
-- ARGV[..] after the pairs, the shards that the worker gives back: "17" to any worker, "17 id" to the live
--          worker with that id, under a term with that worker's counter
--
-- Returns {'reused'} if another worker has called under this id, or {'ok', id of the last
-- event or '', Redis's time in ms, web, version, '1' if the table follows or '', the number of workers, id and
-- value of each, shard and term of each shard of the caller}.
local SHARDS = 256
local workers, shards, events, web = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, count, stopping, limit, suspended = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4]), ARGV[5] == '1'
local known, channel, gone = ARGV[6], ARGV[7], tonumber(ARGV[8])

for _, key in ipairs({workers, shards}) do -- a key of another type is deleted and created again
  local t = redis.call('TYPE', key)
  t = type(t) == 'table' and t.ok or t
  if t ~= 'hash' and t ~= 'none' then redis.call('DEL', key) end
end

-- counter parses the value of a worker. It returns the counter, and whether the worker is suspended.
local function counter(value)
  local n, s = string.match(value or '', '^(%d+)( ?s?)$')
  return tonumber(n) or 0, s == ' s'
end

local stored = redis.call('HGET', workers, me)
local before, was_suspended = counter(stored)
if stored and before >= count then return {'reused'} end

local changed = (not stored or was_suspended ~= suspended) and not stopping -- a caller that only reads is not a worker
for n = 9, 8 + 2 * gone, 2 do
  local value = ARGV[n] ~= me and redis.call('HGET', workers, ARGV[n])
  if value and counter(value) == tonumber(ARGV[n + 1]) then
    redis.call('HDEL', workers, ARGV[n])
    changed = true
  end
end
if stopping then
  changed = redis.call('HDEL', workers, me) == 1 or changed
else
  redis.call('HSET', workers, me, ARGV[2] .. (suspended and ' s' or ''))
end

local function owner(term) return term and string.match(term, '^(%S+) %d+$') end

for n = 9 + 2 * gone, #ARGV do
  local shard, receiver = string.match(ARGV[n], '^(%d+) ?(.*)$')
  local theirs = receiver ~= '' and redis.call('HGET', workers, receiver)
  if owner(redis.call('HGET', shards, shard)) == me and (receiver == '' or theirs) then
    if theirs then
      redis.call('HSET', shards, shard, string.format('%s %.0f', receiver, (counter(theirs))))
    else
      redis.call('HDEL', shards, shard)
    end
    changed = true
  end
end

local flat = redis.call('HGETALL', workers)
local version = redis.call('HGET', shards, 'version') or ''
local full, mine = changed or known == '' or known ~= version, {}

if full then
  local live, all, fit = {}, 0, 0
  for i = 1, #flat, 2 do
    local _, s = counter(flat[i + 1])
    live[flat[i]], all = true, all + 1
    if not s then fit = fit + 1 end
  end
  local share = math.ceil(SHARDS / math.max(fit > 0 and fit or all, 1))
  if stopping or (suspended and fit > 0) then share = 0 end
  share = math.min(share, limit)
  local term, table, have, dirty = me .. ' ' .. ARGV[2], {}, 0, false
  local stored_table = redis.call('HGETALL', shards)
  for i = 1, #stored_table, 2 do
    local shard = stored_table[i]
    local number = tonumber(shard)
    if number and number >= 0 and number < SHARDS and tostring(number) == shard then
      table[number] = stored_table[i + 1]
      if owner(table[number]) == me then have = have + 1 end
    elseif shard ~= 'version' then -- edited by hand
      redis.call('HDEL', shards, shard)
    end
  end
  for shard = 0, SHARDS - 1 do
    local is = owner(table[shard])
    if not is or not live[is] then
      local was = table[shard]
      table[shard] = nil
      if have < share then
        have, table[shard] = have + 1, term
        redis.call('HSET', shards, shard, term)
        dirty = true
      elseif was then
        redis.call('HDEL', shards, shard)
        dirty = true
      end
    end
    if table[shard] and owner(table[shard]) == me then
      mine[#mine + 1], mine[#mine + 2] = tostring(shard), table[shard]
    end
  end
  if dirty or changed then
    version = term
    redis.call('HSET', shards, 'version', version)
  end
end
if changed then redis.call('PUBLISH', channel, me) end

local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
local time = redis.call('TIME')
local out = {
  'ok', last[1] and last[1][1] or '', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
  redis.call('GET', web) or '0', version, full and '1' or '', tostring(#flat / 2),
}
for _, value in ipairs(flat) do out[#out + 1] = value end
for _, value in ipairs(mine) do out[#out + 1] = value end
return out
