-- vhost.lua stores the members of vhosts and updates their frontends. It stands after settings.lua and hipache's
-- frontend.lua, and before the script that uses it.
--
-- A member is stored in the hash vhost:<host> as url -> "wanted stay departure id"; stay is 0 for 'never', 1 for
-- 'last' and 2 for 'return'. A departure is the time, in ms by Redis's clock, at which older versions remove the
-- surplus backends. In this version it only names the wait: the owner of the vhost's shard measures the settle time on
-- its own monotonic clock, and project.lua removes the backends. The sorted set settling lists the vhosts with
-- departures.
--
-- The script builds the keys of single instances and vhosts from the prefixes, because only the script knows which ones
-- it needs. A Redis Cluster is not supported.

local SMALL = 32 -- a vhost with fewer members is read as a whole with each change

-- vhost.repaired lists the keys of the proxy that had the wrong type. vhost.rewritten is the name of the set of
-- wildcards whose requested hosts may have dead sets with positions of an earlier list.
local vhost = {repaired = {}, rewritten = c.prefix .. 'rewritten'}

local STAY, STAY_CODE = {['0'] = 'never', ['1'] = 'last', ['2'] = 'return'}, {never = 0, last = 1, ['return'] = 2}

local function wildcard(host) return host == '*' or string.sub(host, 1, 2) == '*.' end

local function members_of(host) return c.prefix .. 'vhost:' .. host end

local function children_of(host) return c.prefix .. 'marked:' .. host end

function vhost.list_of(host) return c.hipache .. 'frontend:' .. host end

function vhost.dead_of(requested) return c.hipache .. 'dead:' .. requested end

-- vhost.owned reports whether a shard has a term. A worker writes only under the present term of the shard.
function vhost.owned(shard, term) return redis.call('HGET', c.prefix .. 'shards', shard) == term end

-- parse returns the member that is stored as a value of the hash, or nil.
local function parse(value)
  local wanted, stay, departure, id = string.match(value or '', '^(%d+) (%d) (%d+) (.*)$')
  if not wanted then return nil end
  return {wanted = tonumber(wanted), stay = STAY[stay] or 'never', departure = tonumber(departure), id = id}
end

local function format(m) return string.format('%d %d %.0f %s', m.wanted, STAY_CODE[m.stay], m.departure, m.id) end

-- vhost.member returns the member of a vhost at a url, or nil.
function vhost.member(host, url) return parse(redis.call('HGET', members_of(host), url)) end

-- load returns all members of a vhost, and their stored values.
local function load(host)
  local members, stored = {}, {}
  local flat = redis.call('HGETALL', members_of(host))
  for i = 1, #flat, 2 do
    local m = parse(flat[i + 1])
    members[flat[i]], stored[flat[i]] = m, {departure = m and m.departure, value = flat[i + 1]}
  end
  return members, stored
end

-- save writes the members that have a change or a new departure, and deletes the removed members.
local function save(host, members, stored, changes)
  local key = members_of(host)
  for url, m in pairs(members) do
    local was = stored[url]
    if not was or was.departure ~= m.departure or (changes[url] and was.value ~= format(m)) then
      redis.call('HSET', key, url, format(m))
    end
  end
  for url in pairs(stored) do
    if not members[url] then redis.call('HDEL', key, url) end
  end
end

-- frontend_of returns the vhost in the form that frontend.lua expects, without its members.
local function frontend_of(host, service, passed, settled)
  local v = {
    list = vhost.list_of(host), dead = vhost.dead_of(host), wildcard = wildcard(host), children = {},
    identifier = service or redis.call('HGET', vhosts, host) or host, passed = passed, settled = settled,
    departure = c.now + c.settle, mark_ttl = c.mark_ttl, passive_ttl = c.passive_ttl,
    member = function(url) return vhost.member(host, url) end,
  }
  if v.wildcard then
    for _, requested in ipairs(redis.call('SMEMBERS', children_of(host))) do
      v.children[#v.children + 1] = vhost.dead_of(requested)
    end
  end
  return v
end

-- changed returns the member m (nil: none) after a change, or nil if the change does not apply to it.
local function changed(m, change)
  if change.was and not (m and m.id == change.was) then return nil end
  return {
    wanted = change.n, stay = STAY[tostring(change.keep)], departure = m and m.departure or 0,
    reduced = m and change.n < m.wanted, id = change.id,
  }
end

-- forget_children removes a wildcard's dead sets from its index: they were deleted, or hold positions of an earlier list.
local function forget_children(host)
  redis.call('DEL', children_of(host))
  redis.call('SADD', vhost.rewritten, host)
end

-- adjust applies changes to a vhost with many members without reading all of them. It returns wrote. If all members
-- must be read, it returns nil without a write.
local function adjust(host, service, changes, passed)
  local key = members_of(host)
  if redis.call('HLEN', key) < SMALL then return nil end
  local after = {}
  for url, change in pairs(changes) do after[url] = changed(vhost.member(host, url), change) end
  for url in pairs(passed or {}) do after[url] = after[url] or vhost.member(host, url) end
  local v = frontend_of(host, service, passed)
  local wrote, moved = frontend.adjust(v, after)
  if wrote == nil then return nil end
  if v.wildcard and moved then forget_children(host) end
  for url, m in pairs(after) do
    if m.id == '' and m.departure == 0 then
      redis.call('HDEL', key, url)
    else
      redis.call('HSET', key, url, format(m))
    end
    if m.departure > 0 then redis.call('ZADD', settling, 'LT', m.departure, host) end
  end
  if service then redis.call('HSET', vhosts, host, service) end
  return wrote
end

-- vhost.touch applies changes (url -> {n, keep, id, was}, may be nil) to a vhost's members and updates its frontend.
-- service is the vhost's service if a change registers an instance, else nil. passed holds the urls that have just
-- passed a check; settled is url -> the departure whose settle time is over. It returns wrote.
function vhost.touch(host, service, changes, passed, settled)
  if changes then
    local wrote = adjust(host, service, changes, passed)
    if wrote ~= nil then return wrote end
  end
  local members, stored = load(host)
  for url, change in pairs(changes or {}) do members[url] = changed(members[url], change) or members[url] end

  local v = frontend_of(host, service, passed, settled)
  v.members = members
  local wrote, repaired, moved = frontend.project(v)
  if repaired then vhost.repaired[#vhost.repaired + 1] = repaired .. ' of ' .. host end
  if v.wildcard and moved then forget_children(host) end

  save(host, members, stored, changes or {})
  local registered, first = false, nil
  for _, m in pairs(members) do
    registered = registered or m.id ~= ''
    if m.departure > 0 and (not first or m.departure < first) then first = m.departure end
  end
  if not registered then
    redis.call('HDEL', vhosts, host)
  elseif service then
    redis.call('HSET', vhosts, host, service)
  end
  if first then
    redis.call('ZADD', settling, first, host)
  else
    redis.call('ZREM', settling, host)
  end
  return wrote
end

-- vhost.size returns the number of backends in a vhost's frontend, or the number of its members if that is larger.
function vhost.size(host)
  local list = vhost.list_of(host)
  local listed = frontend.keytype(list) == 'list' and redis.call('LLEN', list) - 1 or 0
  return math.max(redis.call('HLEN', members_of(host)), listed)
end

-- vhost.needs reports whether a vhost would be without a backend if the one at url left.
function vhost.needs(host, url)
  local v = frontend_of(host)
  if redis.call('HLEN', members_of(host)) >= SMALL and frontend.another(v, url) then return false end
  v.members = load(host)
  return not frontend.others(v, url)
end

-- vhost.reopen removes the marks of a vhost's backends from the dead set of a requested host if every position has one.
-- Backends that are leaving stay marked.
function vhost.reopen(host, requested)
  local list, dead = vhost.list_of(host), vhost.dead_of(requested)
  if not frontend.closed(list, dead) then return end
  if host == requested then
    vhost.touch(host)
  else
    frontend.open(list, dead, load(host))
  end
end

-- vhost.passed removes the marks of a backend that has just passed a check.
function vhost.passed(host, url)
  local list = vhost.list_of(host)
  if wildcard(host) then
    for _, requested in ipairs(redis.call('SMEMBERS', children_of(host))) do
      local dead = vhost.dead_of(requested)
      if frontend.keytype(dead) == 'set' then
        frontend.unmark(list, dead, url)
      else
        redis.call('SREM', children_of(host), requested)
      end
    end
    return
  end
  local dead = vhost.dead_of(host)
  local kind = frontend.keytype(dead)
  if kind ~= 'none' and (kind ~= 'set' or frontend.marked(list, dead, url)) then
    vhost.touch(host, nil, {}, {[url] = true})
  end
end
