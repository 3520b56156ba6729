-- commit.lua makes one change of the registry. It writes the whole change, or no key at all if an expectation does
-- not hold. It is the only script that writes instances.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  the change, JSON: {steps: [step...], keep: length of the event stream,
--          limit: largest number of instances of a service, absent: no limit,
--          backends: largest number of backends of a vhost, absent: no limit,
--          seen: [{id, rev}] instances that must be at these revisions, absent: none,
--          takes: {vhost: the service that loses it}, absent: none,
--          shard, term: the shard of the thing that causes the change, and the worker's term of it;
--          term is absent if the caller is no worker}
--   step.id, rev       the instance and the revision at which it was read; 0: it must not exist
--   step.service, address, was_address   was_address is set if the address changes
--   step.boot          the instance's nonce; absent: none
--   step.peers         [{id, boot}]: starts with which the instance may share its address
--   step.beat          the last heartbeat that the step depends on, 0: no heartbeat; absent: the step
--                      does not depend on heartbeats
--   step.asserts       true if the instance reports its own health in this step
--   step.hosts         [{host, url, n, keep, id, was, new}]: the instance's backends in each vhost;
--                      with was, the entry applies only if the member belongs to that id; new is true
--                      if the instance did not serve the vhost before
--   step.passed        true if the instance has just passed a check
--   step.spare         true if the instance may leave only if each of its vhosts has another backend
-- ARGV[3..] three values for each step: its document, '' if the instance is gone; its event, JSON for the
--          stream, '' for none; and the packed result that led to the step, '' for none
--
-- Returns {'ok', id of the last event or '', number of written frontends, number of unchanged frontends,
-- repaired keys...} or, without a write, {'conflict', id}, {'lost', id or ''}, {'last', id, host},
-- {'taken', 'address'|'backend'|'host', value, holder},
-- {'full', service}, {'crowded', host}.
local change = cjson.decode(ARGV[2])
local prefix = c.prefix
local services, events = prefix .. 'services', prefix .. 'events'

local addresses = prefix .. 'addresses'

local after = {} -- id -> its address after the change, '' if gone
local leaving = {} -- service -> number of its instances that the change removes
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

-- holder returns the id of another instance that has the address of a step and may not share it, or nil. If both
-- instances have nonces, they differ if the nonces differ; otherwise they differ if they are of the same service. Two
-- instances that list each other as peers share the address.
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

-- backend returns the id of the other instance to which a vhost's backend at the address of a step belongs, or nil.
local function backend(s, h)
  local m = redis.call('HGET', prefix .. 'vhost:' .. h.host, h.url)
  local id = m and string.match(m, '^%d+ %d %d+ (.+)$')
  if not id or id == s.id or (after[id] or s.address) ~= s.address then return nil end
  local doc = redis.call('GET', prefix .. 'instance:' .. id)
  return doc and cjson.decode(doc).address == s.address and id or nil
end

-- owner returns the other service that a vhost belongs to, or nil if there is none or the change takes the vhost from
-- it. It sets h.claims to false if the vhost stays with that service: an instance without backends does not claim it.
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

-- hold adds an instance to the index of addresses, or removes it (is = false).
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
