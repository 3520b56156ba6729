-- commit.lua makes one change of the registry: all of it, or nothing when one of
-- its expectations does not hold. It is the only script that writes instances.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  the change, JSON: {steps: [step...], keep: length of the event stream}
--   step.id, rev       the instance and the revision it was read at, 0: must not exist
--   step.doc           the new document; absent when the instance is gone
--   step.service, address, was_address   was_address when it is another one
--   step.due           when the next probe is due, ms; 0 never; absent: as it is
--   step.deadline      when the state ends by itself, ms; 0 never; absent: as it is
--   step.restore       when its override expires, ms; 0 never; absent: as it is
--   step.queue, token  the claim that the step depends on; absent: none
--   step.result        record of the check that led to it; absent: none
--   step.hosts         [{host, url, n, keep, id, was}]: what becomes of each vhost's slots;
--                      with was, only if they belong to that id until now
--   step.passed        true when the instance has just passed a check
--   step.event         JSON for the stream; absent: nothing to tell
--
-- Returns {'ok', id of the last event or '', repaired...} or, with nothing written,
-- {'conflict', id}, {'lost', id}, {'taken', 'address'|'host', value, holder}.
local change = cjson.decode(ARGV[2])
local prefix = c.prefix
local services, events = prefix .. 'services', prefix .. 'events'
local due, deadlines, overrides = prefix .. 'due', prefix .. 'deadlines', prefix .. 'overrides'

local freed = {}
for _, s in ipairs(change.steps) do
  if not s.doc then freed[s.service .. ' ' .. s.address] = true end
  if s.was_address then freed[s.service .. ' ' .. s.was_address] = true end
end

for _, s in ipairs(change.steps) do
  if revision(s.id) ~= s.rev then return {'conflict', s.id} end
  if s.token and tonumber(redis.call('ZSCORE', prefix .. s.queue, s.id) or -1) ~= tonumber(s.token) then
    return {'lost', s.id}
  end
  if s.doc then
    local holder = redis.call('HGET', prefix .. 'service:' .. s.service, s.address)
    if holder and holder ~= s.id and not freed[s.service .. ' ' .. s.address] and revision(holder) > 0 then
      return {'taken', 'address', s.address, holder}
    end
  end
  for _, h in ipairs(s.hosts) do
    local owner = h.id ~= '' and redis.call('HGET', vhosts, h.host)
    if owner and owner ~= s.service then return {'taken', 'host', h.host, owner} end
  end
end

local away = tonumber(redis.call('HGET', prefix .. 'clock', 'away') or 0)
local touched, order, wake, last = {}, {}, false, ''

local function schedule(queue, id, at, shift)
  if not at then return end
  if at == 0 then
    redis.call('ZREM', queue, id)
  else
    redis.call('ZADD', queue, at - shift, id)
  end
end

local function release(service, address, id)
  local key = prefix .. 'service:' .. service
  if redis.call('HGET', key, address) == id then redis.call('HDEL', key, address) end
end

for _, s in ipairs(change.steps) do
  if s.was_address then release(s.service, s.was_address, s.id) end
  if s.doc then
    redis.call('SET', prefix .. 'instance:' .. s.id, s.doc)
    redis.call('HSET', prefix .. 'service:' .. s.service, s.address, s.id)
    redis.call('SADD', services, s.service)
    if s.result then record(s.id, s.result) end
    schedule(due, s.id, s.due, 0)
    schedule(deadlines, s.id, s.deadline, away)
    schedule(overrides, s.id, s.restore, 0)
    wake = wake or (s.due and s.due > 0 and s.due <= c.now + 1000)
  else
    redis.call('DEL', prefix .. 'instance:' .. s.id, prefix .. 'results:' .. s.id)
    redis.call('ZREM', due, s.id)
    redis.call('ZREM', deadlines, s.id)
    redis.call('ZREM', overrides, s.id)
    release(s.service, s.address, s.id)
    if redis.call('EXISTS', prefix .. 'service:' .. s.service) == 0 then redis.call('SREM', services, s.service) end
  end
  for _, h in ipairs(s.hosts) do
    local t = touched[h.host]
    if not t then
      t = {changes = {}, clear = {}}
      touched[h.host] = t
      order[#order + 1] = h.host
    end
    if h.id ~= '' then t.service = s.service end
    t.changes[h.url] = {n = h.n, keep = h.keep, id = h.id, was = h.was}
    if s.passed then t.clear[h.url] = true end
  end
end

for _, host in ipairs(order) do
  local t = touched[host]
  vhost.touch(host, t.service, t.changes, t.clear)
end

for _, s in ipairs(change.steps) do
  if s.event then
    last = redis.call('XADD', events, 'MAXLEN', '~', change.keep, '*', 'event', s.event, 'doc', s.doc or '')
  end
end
if wake then redis.call('PUBLISH', prefix .. 'wake', '') end

return {'ok', last, unpack(vhost.repaired)}
