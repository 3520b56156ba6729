-- frontend.lua brings the list of one vhost in line with the members it should
-- have, under proxies that are reading it. It is put in front of every script
-- that changes who is routed.
--
-- frontend.project(v) with v a table of
--   list, dead   names of frontend:<host> and dead:<host>
--   wildcard     true for "*" and "*.name": their marks live under other names
--   children     for a wildcard, the names of the dead sets known to be its own
--   identifier   what a list that has to be made begins with
--   members      url -> {n = slots wanted, keep = 1 when it may stay as the last
--                routable one, 2 when it may also come back as that, else 0, leave =
--                time in ms when its surplus slots go or 0, fewer = true when n has
--                just become less, id = who it is, "" when not registered any more};
--                changed in place: a member that has left is taken out
--   clear        url -> true for those that have just passed a check
--   now, settle  in ms;  ttl  of our marks, in seconds
--
-- returns wrote (true when the list was changed), repaired ("list" or "dead" when
-- a key had the wrong type, else false), left (true when a wildcard's dead sets
-- were dropped with the list). Slots are counted from 1 here, from 0 in Redis.
--
-- The rules, for a vhost that is not a wildcard:
--   * slots whose url is nobody's are foreign: kept, in place, for ever;
--   * a missing slot is appended; one that is wanted again is unmarked;
--   * a surplus slot is marked, and taken out a settle time later, together with
--     the translation of all the marks that stay; one more surplus slot of the same
--     member makes the others wait with it;
--   * when nothing else is routable the first surplus member that may stays as it is,
--     or else one that may comes back: a list is never empty while it need not be;
--   * when every slot is marked, those that are wanted or stay are unmarked: a proxy
--     marks the last routable backend, too, and then answers 502 to everybody;
--   * with no registered member and no foreign slot both keys are deleted;
--   * nothing is written when nothing has to change.
-- A wildcard's slots cannot be marked, so surplus ones are taken out at once, and
-- the marks under its children's names are dropped with them.
--
-- frontend.closed(list, dead) reports whether a dead set has a mark for every slot.
-- frontend.open(list, dead, members) removes the marks of members from such a set; it
-- is for the dead sets of a wildcard's children. It returns how many it removed.
-- frontend.others(v, url) reports whether a request may reach another slot than the
-- member's: one that is wanted, or a foreign one that no proxy has marked.
local frontend = {}

local CHUNK = 1000 -- unpack() fails at some thousand arguments

local function position(slot) return string.format('%.0f', slot - 1) end

function frontend.keytype(key)
  local t = redis.call('TYPE', key)
  return type(t) == 'table' and t.ok or t
end

local function push(list, items)
  for first = 1, #items, CHUNK do
    redis.call('RPUSH', list, unpack(items, first, math.min(first + CHUNK - 1, #items)))
  end
end

-- read returns identifier (nil without a list), slots and marks; it deletes keys of
-- the wrong type and takes out marks that name no slot.
local function read(v)
  local repaired, identifier, slots, marks = false, nil, {}, {}
  local t = frontend.keytype(v.list)
  if t == 'list' then
    slots = redis.call('LRANGE', v.list, 0, -1)
    identifier = table.remove(slots, 1)
  elseif t ~= 'none' then
    redis.call('DEL', v.list)
    repaired = 'list'
  end
  if v.wildcard then return identifier, slots, marks, repaired end
  t = frontend.keytype(v.dead)
  if t == 'set' then
    for _, mark in ipairs(redis.call('SMEMBERS', v.dead)) do
      local n = string.match(mark, '^%d+$') and tonumber(mark)
      if n and n < #slots and mark == string.format('%.0f', n) then
        marks[n + 1] = true
      else
        redis.call('SREM', v.dead, mark)
      end
    end
  elseif t ~= 'none' then
    redis.call('DEL', v.dead)
    repaired = repaired or 'dead'
  end
  return identifier, slots, marks, repaired
end

-- drop deletes the list with every mark that belongs to it.
local function drop(v)
  redis.call('DEL', v.list, v.dead)
  for _, key in ipairs(v.children or {}) do redis.call('DEL', key) end
end

-- rewrite replaces the list and the marks in one go.
local function rewrite(v, identifier, slots, marks, ours)
  local ttl = redis.call('PTTL', v.dead)
  if ours or ttl <= 0 then ttl = v.ttl * 1000 end
  drop(v)
  redis.call('RPUSH', v.list, identifier)
  push(v.list, slots)
  local members = {}
  for slot = 1, #slots do
    if marks[slot] then members[#members + 1] = position(slot) end
  end
  if #members > 0 then
    for first = 1, #members, CHUNK do
      redis.call('SADD', v.dead, unpack(members, first, math.min(first + CHUNK - 1, #members)))
    end
    redis.call('PEXPIRE', v.dead, ttl)
  end
end

-- missing lists the urls that have to be appended, in an order that depends on
-- nothing but the urls.
local function missing(members, seen)
  local urls, out = {}, {}
  for url, m in pairs(members) do
    if m.n > (seen[url] or 0) then urls[#urls + 1] = url end
  end
  table.sort(urls)
  for _, url in ipairs(urls) do
    for _ = (seen[url] or 0) + 1, members[url].n do out[#out + 1] = url end
  end
  return out
end

local function unmark(v, slot, marks)
  redis.call('SREM', v.dead, position(slot))
  marks[slot] = nil
end

-- usable reports whether a proxy can send a request to an entry; see Target.
local function usable(url) return string.find(string.lower(url), '^%s*http://[^/:]') ~= nil end

function frontend.closed(list, dead)
  return frontend.keytype(list) == 'list' and frontend.keytype(dead) == 'set' and
    redis.call('SCARD', dead) >= redis.call('LLEN', list) - 1
end

function frontend.open(list, dead, members)
  local removed = 0
  for slot, url in ipairs(redis.call('LRANGE', list, 1, -1)) do
    if members[url] then removed = removed + redis.call('SREM', dead, position(slot)) end
  end
  return removed
end

function frontend.others(v, url)
  for other, m in pairs(v.members) do
    if other ~= url and m.n > 0 then return true end
  end
  if frontend.keytype(v.list) ~= 'list' then return false end
  local marks = not v.wildcard and frontend.keytype(v.dead) == 'set'
  for slot, entry in ipairs(redis.call('LRANGE', v.list, 1, -1)) do
    if not v.members[entry] and usable(entry) and
      not (marks and redis.call('SISMEMBER', v.dead, position(slot)) == 1) then
      return true
    end
  end
  return false
end

-- begins says whether a surplus slot's member has to begin to leave.
local function begins(m) return m.leave == 0 or m.fewer end

-- stays picks the member that is left alone because nothing else is routable:
-- the first one that no proxy has marked, else the first.
local function stays(v, slots, surplus, marks)
  local second
  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if surplus[slot] and m.keep > 0 and begins(m) then
      if not marks[slot] then return url end
      second = second or url
    end
  end
  return second
end

-- comes_back picks the member that is listed again because nobody is wanted any more
-- and nobody stays: the first one that has not left yet, else the one to append.
local function comes_back(v, slots)
  local append
  for url, m in pairs(v.members) do
    if m.n > 0 then return nil end
    if m.keep == 2 and (not append or url < append) then append = url end
  end
  for _, url in ipairs(slots) do
    local m = v.members[url]
    if m and m.keep == 2 then return url end
  end
  return nil, append
end

function frontend.project(v)
  local identifier, slots, marks, repaired = read(v)
  local seen, surplus, foreign, registered, routable = {}, {}, false, false, 0
  for _, m in pairs(v.members) do
    registered = registered or m.id ~= ''
  end

  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if not m then
      foreign = true
    elseif (seen[url] or 0) >= m.n then
      surplus[slot] = true
    else
      seen[url] = (seen[url] or 0) + 1
      if marks[slot] and (m.leave > 0 or (v.clear and v.clear[url])) then
        unmark(v, slot, marks)
      end
    end
    if not surplus[slot] and not marks[slot] and (m or usable(url)) then routable = routable + 1 end
  end

  if not registered and not foreign then
    local wrote = identifier ~= nil
    if wrote or redis.call('EXISTS', v.dead) == 1 then drop(v) end
    for url in pairs(v.members) do v.members[url] = nil end
    return wrote, repaired, wrote
  end

  local append, kept = missing(v.members, seen), nil
  if routable + #append == 0 then
    kept = stays(v, slots, surplus, marks)
    if not kept then kept, append[1] = comes_back(v, slots) end
  end
  local closed = routable + #append == 0 and not kept
  local leaving, out, ours = {}, {}, false
  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if url == kept or (closed and m and not surplus[slot]) then
      if marks[slot] then unmark(v, slot, marks) end
    elseif surplus[slot] then
      local begun = begins(m)
      local leave = begun and v.now + v.settle or m.leave
      if v.wildcard or leave <= v.now then
        out[slot] = true
      else
        leaving[url], ours = leave, true
        if begun or not marks[slot] then -- a proxy's mark may be about to expire
          redis.call('SADD', v.dead, position(slot))
          redis.call('EXPIRE', v.dead, v.ttl)
          marks[slot] = true
        end
      end
    end
  end

  local wrote, left = #append > 0, false
  if next(out) then
    local remain, translated = {}, {}
    for slot, url in ipairs(slots) do
      if not out[slot] then
        remain[#remain + 1] = url
        translated[#remain] = marks[slot]
      end
    end
    for _, url in ipairs(append) do remain[#remain + 1] = url end
    rewrite(v, identifier, remain, translated, ours)
    wrote, left = true, true
  elseif #append > 0 then
    if not identifier then
      drop(v)
      redis.call('RPUSH', v.list, v.identifier)
      left = true
    end
    push(v.list, append)
  end

  for url, m in pairs(v.members) do
    m.leave, m.fewer = leaving[url] or 0, nil
    if m.id == '' and m.leave == 0 then v.members[url] = nil end
  end
  return wrote, repaired, left
end
