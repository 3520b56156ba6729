-- settings.lua stands in front of the scripts that change instances or vhosts. It decodes ARGV[1], the settings, which
-- are the first argument of each such script, as JSON:
--   prefix   of Rollcall's keys;  hipache  prefix of the proxy's keys
--   now, settle  in ms;  mark_ttl, passive_ttl  in seconds, see frontend.lua
local c = cjson.decode(ARGV[1])
local vhosts, settling = c.prefix .. 'hosts', c.prefix .. 'settling'

-- kept appends a packed result to the results of an instance, and returns the last KEPT of RECORD bytes each.
local RECORD, KEPT = 9, 20

local function kept(results, result) return string.sub((results or '') .. result, -RECORD * KEPT) end

-- record appends a packed result to the stored results of an instance.
local function record(id, result)
  local key = c.prefix .. 'results:' .. id
  redis.call('SET', key, kept(redis.call('GET', key), result))
end

local function revision(id)
  local doc = redis.call('GET', c.prefix .. 'instance:' .. id)
  return doc and tonumber(string.match(doc, '^{"rev":(%d+)')) or 0
end

-- beat stores the time of an instance's heartbeat. Two heartbeats in a row never have the same value, so that the
-- owner can distinguish them.
local function beat(id)
  local beats, now = c.prefix .. 'beats', c.now
  if now == tonumber(redis.call('HGET', beats, id) or 0) then now = now + 1 end
  redis.call('HSET', beats, id, string.format('%.0f', now))
end
