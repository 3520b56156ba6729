-- vhost.lua knows which instances a vhost has, and has its list written.
--
-- It stands between hipache's frontend.lua and the script that uses it, and reads
-- ARGV[1], the settings every such script gets first, as JSON:
--   prefix   of our own keys;  hipache  prefix of the proxy's keys
--   now, settle  in ms;  ttl  of marks, in seconds
--
-- The keys of single instances and vhosts are built here from the prefixes: which
-- ones are needed is only known inside. One Redis (with its replicas) is enough,
-- a Redis Cluster is not supported.
local c = cjson.decode(ARGV[1])
local vhosts, settling = c.prefix .. 'hosts', c.prefix .. 'settling'

-- vhost.repaired lists the keys of the proxy that had the wrong type; vhost.rewritten the
-- wildcards whose positions changed: their children may have marks that are not in marked:.
local vhost = {repaired = {}, rewritten = {}}

local function wildcard(host) return host == '*' or string.sub(host, 1, 2) == '*.' end

function vhost.list_of(host) return c.hipache .. 'frontend:' .. host end

function vhost.dead_of(requested) return c.hipache .. 'dead:' .. requested end

local function load(key)
  local members, stored = {}, {}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local n, keep, leave, id = string.match(flat[i + 1], '^(%d+) (%d) (%d+) (.*)$')
    stored[flat[i]] = flat[i + 1]
    if n then
      members[flat[i]] = {n = tonumber(n), keep = tonumber(keep), leave = tonumber(leave), id = id}
    end
  end
  return members, stored
end

local function save(key, members, stored)
  for url, m in pairs(members) do
    local value = string.format('%d %d %.0f %s', m.n, m.keep, m.leave, m.id)
    if stored[url] ~= value then redis.call('HSET', key, url, value) end
  end
  for url in pairs(stored) do
    if not members[url] then redis.call('HDEL', key, url) end
  end
end

-- touch applies changes (url -> {n, keep, id, was}, may be nil) to a vhost's members and
-- has its list follow. service is whose vhost it is when changes register anybody,
-- else nil; clear names the urls that have just passed a check.
function vhost.touch(host, service, changes, clear)
  local key, marked = c.prefix .. 'vhost:' .. host, c.prefix .. 'marked:' .. host
  local is_wildcard = wildcard(host)
  local members, stored = load(key)
  local owner = redis.call('HGET', vhosts, host)
  for url, change in pairs(changes or {}) do
    local m = members[url]
    if not change.was or (m and m.id == change.was) then
      members[url] = {
        n = change.n, keep = change.keep, leave = m and m.leave or 0, fewer = m and change.n < m.n, id = change.id,
      }
    end
  end

  local children = {}
  if is_wildcard then
    for _, requested in ipairs(redis.call('SMEMBERS', marked)) do
      children[#children + 1] = vhost.dead_of(requested)
    end
  end
  local wrote, repaired, left = frontend.project({
    list = vhost.list_of(host), dead = vhost.dead_of(host), wildcard = is_wildcard, children = children, identifier = service or owner or host,
    members = members, clear = clear, now = c.now, settle = c.settle, ttl = c.ttl,
  })
  if repaired then vhost.repaired[#vhost.repaired + 1] = repaired .. ' of ' .. host end
  if is_wildcard and left then
    redis.call('DEL', marked)
    vhost.rewritten[#vhost.rewritten + 1] = host
  end

  save(key, members, stored)
  local registered, due = false, nil
  for _, m in pairs(members) do
    registered = registered or m.id ~= ''
    if m.leave > 0 and (not due or m.leave < due) then due = m.leave end
  end
  if not registered then
    redis.call('HDEL', vhosts, host)
  elseif service then
    redis.call('HSET', vhosts, host, service)
  end
  if due then
    redis.call('ZADD', settling, due, host)
  else
    redis.call('ZREM', settling, host)
  end
  return wrote
end

-- needs reports whether a vhost would be without a backend if the one at url left.
function vhost.needs(host, url)
  return not frontend.others(
    {list = vhost.list_of(host), dead = vhost.dead_of(host), wildcard = wildcard(host), members = load(c.prefix .. 'vhost:' .. host)}, url
  )
end

-- reopen removes the marks of a vhost's backends from the dead set of a requested host if
-- every slot has one. What is leaving stays marked.
function vhost.reopen(host, requested)
  local list, dead = vhost.list_of(host), vhost.dead_of(requested)
  if not frontend.closed(list, dead) then return end
  if host == requested then
    vhost.touch(host)
  else
    frontend.open(list, dead, load(c.prefix .. 'vhost:' .. host))
  end
end

-- passed clears what proxies marked of an instance that has just passed a check:
-- nothing to do, most of the time.
function vhost.passed(host, url)
  if wildcard(host) then
    local marked = c.prefix .. 'marked:' .. host
    for _, requested in ipairs(redis.call('SMEMBERS', marked)) do
      local dead = vhost.dead_of(requested)
      if frontend.keytype(dead) ~= 'set' then
        redis.call('SREM', marked, requested)
      else
        for slot, entry in ipairs(redis.call('LRANGE', vhost.list_of(host), 1, -1)) do
          if entry == url then redis.call('SREM', dead, string.format('%.0f', slot - 1)) end
        end
      end
    end
  elseif redis.call('EXISTS', vhost.dead_of(host)) == 1 then
    vhost.touch(host, nil, nil, {[url] = true})
  end
end

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
