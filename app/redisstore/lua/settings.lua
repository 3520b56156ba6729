-- settings.lua stands in front of the scripts that change instances or vhosts. It reads ARGV[1], the settings that each
-- such script gets first, as JSON:
--   prefix   of our own keys;  hipache  prefix of the proxy's keys
--   now, settle  in ms;  mark_ttl, passive_ttl  in seconds, see frontend.lua
local c = cjson.decode(ARGV[1])
local vhosts, settling = c.prefix .. 'hosts', c.prefix .. 'settling'

-- kept is what is kept of an instance's results when there is another one.
local RECORD, KEPT = 9, 20

local function kept(results, result) return string.sub((results or '') .. result, -RECORD * KEPT) end

-- record appends one check's result to what is kept of an instance.
local function record(id, result)
  local key = c.prefix .. 'results:' .. id
  redis.call('SET', key, kept(redis.call('GET', key), result))
end

local function revision(id)
  local doc = redis.call('GET', c.prefix .. 'instance:' .. id)
  return doc and tonumber(string.match(doc, '^{"rev":(%d+)')) or 0
end

-- beat notes that an instance has reported by itself. Values differ, so that the owner can
-- tell a later report from an earlier one.
local function beat(id)
  local beats, now = c.prefix .. 'beats', c.now
  if now == tonumber(redis.call('HGET', beats, id) or 0) then now = now + 1 end
  redis.call('HSET', beats, id, string.format('%.0f', now))
end
