-- claim.lua hands out what falls due to one worker: it moves the time of each
-- entry to when the claim runs out, and that new time is the claim's token. Whoever
-- claims the entry next moves it again, so an old token fits nothing any more.
--
-- Times are whole ms and tokens end in .5: a worker that looks ahead takes what will
-- be due, but not what is claimed until then.
--
-- KEYS[1]  queue      sorted set: instance id, time in ms
-- KEYS[2]  due        the queue of probes, read only
-- KEYS[3]  deadlines  the queue of deadlines, read only
-- KEYS[4]  clock      hash; away is how long the registry was out of reach so far
-- ARGV[1]  prefix     of our keys
-- ARGV[2]  now, ms
-- ARGV[3]  horizon, ms  what is due until then is handed out
-- ARGV[4]  lease, ms
-- ARGV[5]  limit
-- ARGV[6]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
--
-- Returns {away, token, the ids, their times, their documents, and their times in due and
-- deadlines or ''}: so many of each.
local queue = KEYS[1]
local now, horizon, lease, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local away = tonumber(redis.call('HGET', KEYS[4], 'away') or 0)
if ARGV[6] == '1' then
  now, horizon = now - away, horizon - away
end

local token, last = string.format('%.1f', now + lease + 0.5), string.format('%.0f', horizon)
local claimed = {{}, {}, {}, {}, {}}

-- take claims a page of entries and returns how many of them exist.
local function take(ids, times)
  if #ids == 0 then return 0 end
  local due = queue == KEYS[2] and times or redis.call('ZMSCORE', KEYS[2], unpack(ids))
  local deadlines = redis.call('ZMSCORE', KEYS[3], unpack(ids))
  local tokens, gone, n = {}, {}, #claimed[1]
  for i, id in ipairs(ids) do
    local doc = redis.call('GET', ARGV[1] .. 'instance:' .. id)
    if not doc then
      gone[#gone + 1] = id
    else
      n = n + 1
      claimed[1][n], claimed[2][n], claimed[3][n] = id, times[i], doc
      claimed[4][n], claimed[5][n] = due[i] or '', deadlines[i] or ''
      tokens[#tokens + 1], tokens[#tokens + 2] = token, id
    end
  end
  if #tokens > 0 then redis.call('ZADD', queue, unpack(tokens)) end
  if #gone > 0 then redis.call('ZREM', queue, unpack(gone)) end
  return #tokens / 2
end

local skipped = 0
while limit > 0 do
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', last, 'WITHSCORES', 'LIMIT', skipped, limit)
  local ids, times = {}, {}
  for i = 1, #page, 2 do
    local at = tonumber(page[i + 1])
    if at > now and at % 1 > 0 then
      skipped = skipped + 1
    else
      ids[#ids + 1], times[#times + 1] = page[i], page[i + 1]
    end
  end
  limit = limit - take(ids, times)
  if #page == 0 then break end
end

local out = {string.format('%.0f', away), token}
for _, column in ipairs(claimed) do
  for _, value in ipairs(column) do out[#out + 1] = value end
end
return out
