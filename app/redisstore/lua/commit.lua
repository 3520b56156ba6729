-- commit.lua makes one change of the registry: all of it, or nothing when one of
-- its expectations does not hold. It is the only script that writes instances.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  the change, JSON: {steps: [step...], keep: length of the event stream,
--          limit: how many instances a service may have, absent: any number,
--          backends: how many backends a vhost may have, absent: any number,
--          seen: [{id, rev}] instances that must be at these revisions, absent: none,
--          takes: {vhost: the service that it is taken from}, absent: none,
--          shard, term: the term under which the writing worker owns the shard of the thing
--          that causes the change, absent: it is no worker}
--   step.id, rev       the instance and the revision it was read at, 0: must not exist
--   step.service, address, was_address   was_address when it is another one
--   step.boot          the instance's nonce; absent: none
--   step.peers         [{id, boot}]: starts that it may share its address with
--   step.beat          the last report by itself that the step depends on, 0: none; absent: it
--                      depends on none
--   step.asserts       true when the instance reports by itself
--   step.hosts         [{host, url, n, keep, id, was, new}]: what becomes of each vhost's slots;
--                      with was, only if they belong to that id until now; new is true if the
--                      instance did not serve the vhost before
--   step.passed        true when the instance has just passed a check
--   step.spare         true when the instance leaves only if each of its vhosts has another backend
-- ARGV[3..] of each step its document, '' when the instance is gone; its event, JSON for the
--          stream, '' when there is nothing to tell; and the record of the check that led to
--          it, '' for none
--
-- Returns {'ok', id of the last event or '', how many of its vhosts' lists were written,
-- how many were not, repaired...} or, with nothing written, {'conflict', id}, {'lost', id or ''}, {'last', id, host},
-- {'taken', 'address'|'backend'|'host', value, holder},
-- {'full', service}, {'crowded', host}.
local change = cjson.decode(ARGV[2])
local prefix = c.prefix
local services, events = prefix .. 'services', prefix .. 'events'

local addresses = prefix .. 'addresses'

local after = {} -- id -> where it is after the change, '' when gone
local leaving = {} -- service -> how many of its instances are gone after the change
for n, s in ipairs(change.steps) do
  s.doc, s.event, s.result = ARGV[3 * n], ARGV[3 * n + 1], ARGV[3 * n + 2]
  s.gone = s.doc == ''
  after[s.id] = s.gone and '' or s.address
  if s.gone then leaving[s.service] = (leaving[s.service] or 0) + 1 end
end

local function lists(peers, id, boot)
  for _, p in ipairs(peers or {}) do
    if p.id == id and (p.boot or '') == (boot or '') then return true end
  end
  return false
end

-- holder is the instance that has the address of a step and may not keep it: another start
-- of whatever listens there, or without nonces one of the same service. Two starts that
-- list each other as peers share the address.
local function holder(s)
  s.at_address = redis.call('HGET', addresses, s.address)
  for id in string.gmatch(s.at_address or '', '%S+') do
    if id ~= s.id and (after[id] or s.address) == s.address then
      local doc = redis.call('GET', prefix .. 'instance:' .. id)
      local other = doc and cjson.decode(doc)
      if other and other.address == s.address then
        local differ = other.service == s.service
        if s.boot and other.boot then differ = s.boot ~= other.boot end
        local peers = lists(s.peers, id, other.boot) and
          lists(other.claims and other.claims.peers, s.id, s.boot)
        if differ and not peers then return id end
      end
    end
  end
end

-- backend is the instance that a vhost's backend at the address of a step belongs to, nil
-- when that is the step's own or nobody's.
local function backend(s, h)
  local m = redis.call('HGET', prefix .. 'vhost:' .. h.host, h.url)
  local id = m and string.match(m, '^%d+ %d %d+ (.+)$')
  if not id or id == s.id or (after[id] or s.address) ~= s.address then return nil end
  local doc = redis.call('GET', prefix .. 'instance:' .. id)
  return doc and cjson.decode(doc).address == s.address and id or nil
end

-- owner is the service that a vhost belongs to and is not taken from; h.claims is set unless
-- the vhost stays that service's: an instance that has no slot is no claim.
local function owner(s, h)
  local service = redis.call('HGET', vhosts, h.host)
  h.claims = true
  if not service or service == s.service then return nil end
  if change.takes and change.takes[h.host] == service then return nil end
  local m = redis.call('HGET', prefix .. 'vhost:' .. h.host, h.url)
  if h.n == 0 and m and string.match(m, '^%d+ %d %d+ (.*)$') == s.id then
    h.claims = false
    return nil
  end
  return service
end

if change.term and redis.call('HGET', prefix .. 'shards', change.shard) ~= change.term then return {'lost', ''} end
for _, seen in ipairs(change.seen or {}) do
  if revision(seen.id) ~= seen.rev then return {'conflict', seen.id} end
end
for _, s in ipairs(change.steps) do
  if revision(s.id) ~= s.rev then return {'conflict', s.id} end
  if s.beat and tonumber(redis.call('HGET', prefix .. 'beats', s.id) or 0) ~= s.beat then return {'lost', s.id} end
  if not s.gone then
    local id = holder(s)
    if id then return {'taken', 'address', s.address, id} end
  end
  for _, h in ipairs(s.hosts) do
    if h.id ~= '' and not h.was then
      local service = owner(s, h)
      if service then return {'taken', 'host', h.host, service} end
      local id = backend(s, h)
      if id then return {'taken', 'backend', h.host, id} end
    end
    if h.new and change.backends and vhost.size(h.host) >= change.backends then return {'crowded', h.host} end
    if s.spare and vhost.needs(h.host, h.url) then return {'last', s.id, h.host} end
  end
  if not s.gone and s.rev == 0 and change.limit and
    redis.call('SCARD', prefix .. 'service:' .. s.service) - (leaving[s.service] or 0) >= change.limit then
    return {'full', s.service}
  end
end

local touched, order, last = {}, {}, ''

-- hold writes down that an instance is at an address, or is not there any more.
local function hold(address, id, is)
  local ids, had = {}, false
  for other in string.gmatch(redis.call('HGET', addresses, address) or '', '%S+') do
    if other == id then
      had = true
    elseif redis.call('EXISTS', prefix .. 'instance:' .. other) == 1 then
      ids[#ids + 1] = other
    end
  end
  if is then ids[#ids + 1] = id end
  if #ids == 0 then
    redis.call('HDEL', addresses, address)
  elseif had ~= is then
    redis.call('HSET', addresses, address, table.concat(ids, ' '))
  end
end

for _, s in ipairs(change.steps) do
  if s.was_address then hold(s.was_address, s.id, false) end
  if not s.gone then
    redis.call('SET', prefix .. 'instance:' .. s.id, s.doc)
    if s.at_address or #change.steps > 1 then -- another step may have written it
      hold(s.address, s.id, true)
    else
      redis.call('HSET', addresses, s.address, s.id)
    end
    redis.call('SADD', prefix .. 'service:' .. s.service, s.id)
    redis.call('SADD', services, s.service)
    if s.result ~= '' then record(s.id, s.result) end
    if s.asserts then beat(s.id) end
  else
    redis.call('DEL', prefix .. 'instance:' .. s.id, prefix .. 'results:' .. s.id)
    redis.call('HDEL', prefix .. 'beats', s.id)
    hold(s.address, s.id, false)
    redis.call('SREM', prefix .. 'service:' .. s.service, s.id)
    if redis.call('EXISTS', prefix .. 'service:' .. s.service) == 0 then redis.call('SREM', services, s.service) end
  end
  for _, h in ipairs(s.hosts) do
    local t = touched[h.host]
    if not t then
      t = {changes = {}, clear = {}}
      touched[h.host] = t
      order[#order + 1] = h.host
    end
    if h.claims then t.service = s.service end
    t.changes[h.url] = {n = h.n, keep = h.keep, id = h.id, was = h.was}
    if s.passed then t.clear[h.url] = true end
  end
end

-- departed adds an instance that leaves to the list of its service.
local function departed(s)
  local event = cjson.decode(s.event)
  local doc = cjson.encode({instance = s.id, at = event.at, from = event.from, actor = event.actor,
    reason = string.sub(event.reason, 1, 80)})
  local list = prefix .. 'departed:' .. s.service
  redis.call('LPUSH', list, doc)
  redis.call('LTRIM', list, 0, 14)
  redis.call('EXPIRE', list, 86400)
end

local wrote = 0
for _, host in ipairs(order) do
  local t = touched[host]
  if vhost.touch(host, t.service, t.changes, t.clear) then wrote = wrote + 1 end
end

for _, s in ipairs(change.steps) do
  if s.event ~= '' then
    last = redis.call('XADD', events, 'MAXLEN', '~', change.keep, '*', 'event', s.event, 'doc', s.doc)
    if s.gone then departed(s) end
  end
end

return {'ok', last, tostring(wrote), tostring(#order - wrote), unpack(vhost.repaired)}
