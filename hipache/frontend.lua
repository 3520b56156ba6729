-- frontend.lua brings the frontend of a vhost in line with the members that the vhost should have, while proxies
-- read it. Every script that changes a frontend begins with this file.
--
-- A vhost is a table v:
--   list, dead   the names of frontend:<host> and dead:<host>
--   wildcard     true for "*" and "*.name": their marks are stored under the requested names
--   children     for a wildcard, the names of the dead sets that are known to belong to it
--   identifier   the first entry of a list that has to be created
--   members      url -> member
--   passed       url -> true for backends that have just passed a check
--   settled      url -> the departure whose settle time is over
--   departure    the departure of backends that begin to leave now
--   mark_ttl     seconds that our own marks last
--   passive_ttl  seconds that a proxy's mark lasts
--
-- A member is a table:
--   wanted       number of slots that the backend should have
--   stay         'never'; 'last': its slots may stay as the last routable ones; 'return': it may also be listed
--                again as the last routable one
--   departure    0, or the departure of its surplus slots: a number that names one wait for removal
--   reduced      true when wanted has just become smaller
--   id           the instance's id, '' when it is not registered any more
--
-- Slots are counted from 1 here, and from 0 in Redis. Each slot is
--   foreign   its url belongs to no member: it keeps its place for ever
--   wanted    one of the first member.wanted slots of its member
--   surplus   a further slot of its member
-- and a slot is routable if it is unmarked, and foreign with a usable url or wanted.
--
-- frontend.project(v) applies these rules to all slots:
--   * A missing slot is appended. A wanted slot loses its mark if its member was leaving or has just passed a check.
--   * A surplus slot is marked. It is removed when its departure has settled; the marks of the other slots move with
--     them. If another slot of the same member becomes surplus, all of them begin a new departure.
--   * If no slot is routable, one member stays: the first surplus one that may, or else one that may return.
--   * If no member stays either, the wanted slots lose their marks: a proxy also marks the last routable backend.
--   * The list and the dead set are deleted when no member is registered and no slot is foreign.
--   * The surplus slots of a wildcard are removed at once, together with the dead sets of its children.
--   * Nothing is written if nothing has to change.
--
-- frontend.project changes v.members: it sets their departures, and removes unregistered members without slots. It
-- returns wrote (true: the list was changed), repaired ('list' or 'dead': that key had the wrong type; or false) and
-- moved (true: positions of the list changed, or the list is new).
local frontend = {}

local CHUNK = 1000 -- unpack() fails at some thousand arguments
local SAMPLES = 16 -- slots that frontend.adjust looks at, at most, for another routable one

local function position(slot) return string.format('%.0f', slot - 1) end

function frontend.keytype(key)
  local t = redis.call('TYPE', key)
  return type(t) == 'table' and t.ok or t
end

-- usable reports whether a proxy can send a request to an entry; see Target.
local function usable(url) return string.find(string.lower(url), '^%s*http://[^/:]') ~= nil end

-- in_chunks calls a command with any number of arguments after its key.
local function in_chunks(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end

local function mark(v, slots)
  local positions = {}
  for _, slot in ipairs(slots) do positions[#positions + 1] = position(slot) end
  in_chunks('SADD', v.dead, positions)
  if #positions > 0 then redis.call('EXPIRE', v.dead, v.mark_ttl) end
end

local function unmark(v, slots)
  local positions = {}
  for _, slot in ipairs(slots) do positions[#positions + 1] = position(slot) end
  in_chunks('SREM', v.dead, positions)
end

-- drop deletes the list with all marks that belong to it.
local function drop(v)
  redis.call('DEL', v.list, v.dead)
  for _, key in ipairs(v.children or {}) do redis.call('DEL', key) end
end

-- departure_of returns the departure of a member's surplus slots, and whether it begins now.
local function departure_of(v, m)
  if m.departure == 0 or m.reduced then return v.departure, true end
  return m.departure, false
end

-- read returns what the two keys hold: identifier (nil without a list), slots, marked (slot -> true) and repaired.
-- It deletes keys of the wrong type, and marks that name no slot.
local function read(v)
  local repaired, identifier, slots, marked = false, nil, {}, {}
  local kind = frontend.keytype(v.list)
  if kind == 'list' then
    slots = redis.call('LRANGE', v.list, 0, -1)
    identifier = table.remove(slots, 1)
  elseif kind ~= 'none' then
    redis.call('DEL', v.list)
    repaired = 'list'
  end
  if v.wildcard then return identifier, slots, marked, repaired end

  kind = frontend.keytype(v.dead)
  if kind == 'set' then
    for _, text in ipairs(redis.call('SMEMBERS', v.dead)) do
      local n = string.match(text, '^%d+$') and tonumber(text)
      if n and n < #slots and text == position(n + 1) then
        marked[n + 1] = true
      else
        redis.call('SREM', v.dead, text)
      end
    end
  elseif kind ~= 'none' then
    redis.call('DEL', v.dead)
    repaired = repaired or 'dead'
  end
  return identifier, slots, marked, repaired
end

-- classify returns for each slot 'foreign', 'wanted' or 'surplus', and for each url its number of wanted slots.
local function classify(v, slots)
  local kinds, listed = {}, {}
  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if not m then
      kinds[slot] = 'foreign'
    elseif (listed[url] or 0) >= m.wanted then
      kinds[slot] = 'surplus'
    else
      kinds[slot] = 'wanted'
      listed[url] = (listed[url] or 0) + 1
    end
  end
  return kinds, listed
end

-- missing lists the urls to append. Their order depends on the urls only.
local function missing(v, listed)
  local urls, append = {}, {}
  for url, m in pairs(v.members) do
    if m.wanted > (listed[url] or 0) then urls[#urls + 1] = url end
  end
  table.sort(urls)
  for _, url in ipairs(urls) do
    for _ = (listed[url] or 0) + 1, v.members[url].wanted do append[#append + 1] = url end
  end
  return append
end

-- staying returns the url of the member whose surplus slots stay because no slot is routable: the first one that no
-- proxy has marked, or else the first. It returns nil if none may.
local function staying(v, slots, kinds, marked)
  local first
  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if kinds[slot] == 'surplus' and m.stay ~= 'never' and (m.departure == 0 or m.reduced) then
      if not marked[slot] then return url end
      first = first or url
    end
  end
  return first
end

-- returning returns the url of the member that is listed again because no member is wanted: the first one that still
-- has a slot, or else the first by name. append is true if it has no slot.
local function returning(v, slots)
  local by_name
  for url, m in pairs(v.members) do
    if m.wanted > 0 then return nil end
    if m.stay == 'return' and (not by_name or url < by_name) then by_name = url end
  end
  for _, url in ipairs(slots) do
    local m = v.members[url]
    if m and m.stay == 'return' then return url, false end
  end
  return by_name, true
end

-- rewrite replaces the list and the dead set by the slots that are not removed and the urls to append. ttl is that
-- of the marks, in ms.
local function rewrite(v, identifier, slots, marked, removed, append, ttl)
  local entries, positions = {identifier}, {}
  for slot, url in ipairs(slots) do
    if not removed[slot] then
      if marked[slot] then positions[#positions + 1] = position(#entries) end
      entries[#entries + 1] = url
    end
  end
  for _, url in ipairs(append) do entries[#entries + 1] = url end
  drop(v)
  in_chunks('RPUSH', v.list, entries)
  in_chunks('SADD', v.dead, positions)
  if #positions > 0 then redis.call('PEXPIRE', v.dead, ttl) end
end

-- limit_ttl keeps a dead set with our marks from expiring, and gives the marks of proxies their own time to live once
-- none of ours is left. It returns the time to live in ms.
local function limit_ttl(v, ours, write)
  local have, want = redis.call('PTTL', v.dead), nil
  local half = v.mark_ttl * 500
  if ours and have < half then
    want = v.mark_ttl * 1000
  elseif not ours and (have < 0 or have > half) then
    want = v.passive_ttl * 1000
  end
  if want and write then redis.call('PEXPIRE', v.dead, want) end
  return want or have
end

function frontend.project(v)
  local identifier, slots, marked, repaired = read(v)
  local kinds, listed = classify(v, slots)

  local registered, foreign = false, false
  for _, m in pairs(v.members) do registered = registered or m.id ~= '' end
  for _, kind in ipairs(kinds) do foreign = foreign or kind == 'foreign' end
  if not registered and not foreign then
    if identifier or redis.call('EXISTS', v.dead) == 1 then drop(v) end
    for url in pairs(v.members) do v.members[url] = nil end
    return identifier ~= nil, repaired, identifier ~= nil
  end

  local to_mark, to_unmark, removed, leaving = {}, {}, {}, {}
  local function clear(slot)
    if marked[slot] then
      to_unmark[#to_unmark + 1] = slot
      marked[slot] = nil
    end
  end

  local routable = 0
  for slot, url in ipairs(slots) do
    local m = v.members[url]
    if kinds[slot] == 'wanted' and (m.departure > 0 or (v.passed and v.passed[url])) then clear(slot) end
    if not marked[slot] and (kinds[slot] == 'wanted' or (kinds[slot] == 'foreign' and usable(url))) then
      routable = routable + 1
    end
  end

  local append, stays, all_marked = missing(v, listed), nil, false
  if routable + #append == 0 then
    local add = false
    stays = staying(v, slots, kinds, marked)
    if not stays then stays, add = returning(v, slots) end
    if stays and add then append[1] = stays end
    all_marked = not stays
  end

  for slot, url in ipairs(slots) do
    if url == stays or (all_marked and kinds[slot] == 'wanted') then
      clear(slot)
    elseif kinds[slot] == 'surplus' then
      local departure, begins = departure_of(v, v.members[url])
      if v.wildcard or (not begins and v.settled and v.settled[url] == departure) then
        removed[slot] = true
      else
        leaving[url] = departure
        if begins or not marked[slot] then
          to_mark[#to_mark + 1] = slot
          marked[slot] = true
        end
      end
    end
  end

  local wrote, moved = #append > 0, false
  local ours = next(leaving) ~= nil
  if next(removed) then
    rewrite(v, identifier, slots, marked, removed, append, limit_ttl(v, ours, false))
    wrote, moved = true, true
  else
    unmark(v, to_unmark)
    mark(v, to_mark)
    if not v.wildcard and next(marked) then limit_ttl(v, ours, true) end
    if #append > 0 and not identifier then
      drop(v)
      redis.call('RPUSH', v.list, v.identifier)
      moved = true
    end
    in_chunks('RPUSH', v.list, append)
  end

  for url, m in pairs(v.members) do
    m.departure, m.reduced = leaving[url] or 0, nil
    if m.id == '' and m.departure == 0 then v.members[url] = nil end
  end
  return wrote, repaired, moved
end

-- slots_of returns the slots of a url.
local function slots_of(v, url)
  local slots = {}
  for _, n in ipairs(redis.call('LPOS', v.list, url, 'COUNT', 0)) do
    if n > 0 then slots[#slots + 1] = n end
  end
  return slots
end

-- another_routable reports whether a sample of the slots has a routable one of a member that is not in changed. Then
-- no member stays as the last one, and no change of the members in changed affects the slots of others.
local function another_routable(v, changed)
  local count = redis.call('LLEN', v.list) - 1
  for sample = 0, math.min(SAMPLES, count) - 1 do
    local slot = math.floor(sample * count / math.min(SAMPLES, count)) + 1
    local url = redis.call('LINDEX', v.list, slot)
    if not changed[url] and (v.wildcard or redis.call('SISMEMBER', v.dead, position(slot)) == 0) then
      local m = v.member(url)
      if m and m.wanted > 0 and m.departure == 0 and #slots_of(v, url) == m.wanted then return true end
    end
  end
  return false
end

-- frontend.another reports whether a sample of the slots has a routable one that is not the url's. Its false proves
-- nothing.
function frontend.another(v, url) return frontend.keytype(v.list) == 'list' and another_routable(v, {[url] = true}) end

-- adjust_slots does what frontend.project would do with the slots of one member. It returns wrote and moved.
local function adjust_slots(v, url, m)
  local slots, was_leaving = slots_of(v, url), m.departure > 0
  local surplus = #slots - m.wanted
  if v.wildcard and surplus > 0 then
    redis.call('LREM', v.list, -surplus, url)
    for _, key in ipairs(v.children or {}) do redis.call('DEL', key) end
    m.departure = 0
    return true, true
  end

  if not v.wildcard and (was_leaving or (v.passed and v.passed[url])) then
    local wanted = {}
    for n = 1, math.min(#slots, m.wanted) do wanted[n] = slots[n] end
    unmark(v, wanted)
  end
  local departure, begins = 0, false
  if surplus > 0 then departure, begins = departure_of(v, m) end
  m.departure, m.reduced = departure, nil
  if surplus > 0 then
    local to_mark = {}
    for n = m.wanted + 1, #slots do
      if begins or redis.call('SISMEMBER', v.dead, position(slots[n])) == 0 then to_mark[#to_mark + 1] = slots[n] end
    end
    mark(v, to_mark)
    return false, false
  end

  local append, beyond, length = {}, {}, redis.call('LLEN', v.list)
  for n = 1, -surplus do append[n], beyond[n] = url, length + n - 1 end
  if not v.wildcard then unmark(v, beyond) end
  in_chunks('RPUSH', v.list, append)
  return #append > 0, false
end

-- all_absent reports whether the members in changed neither have a slot nor may get one.
local function all_absent(v, changed)
  for url, m in pairs(changed) do
    if m.wanted > 0 or m.stay ~= 'never' or m.departure > 0 or m.id == '' or #slots_of(v, url) > 0 then return false end
  end
  return true
end

-- frontend.adjust(v, changed) does what frontend.project(v) does if only the members in changed (url -> member) have
-- changed, and does not read the other members. v.members is not needed; v.member(url) returns a member, or nil. It
-- returns wrote and moved, or nil, with nothing written, if it cannot tell: then call frontend.project.
function frontend.adjust(v, changed)
  local listed = frontend.keytype(v.list)
  if (listed == 'list' or listed == 'none') and all_absent(v, changed) then return false, false end
  if listed ~= 'list' then return nil end
  local kind = v.wildcard and 'none' or frontend.keytype(v.dead)
  if (kind ~= 'set' and kind ~= 'none') or not another_routable(v, changed) then return nil end
  local wrote, moved = false, false
  for url, m in pairs(changed) do
    local w, p = adjust_slots(v, url, m)
    wrote, moved = wrote or w, moved or p
  end
  return wrote, moved
end

-- frontend.marked reports whether a slot of a url is marked in a dead set.
function frontend.marked(list, dead, url)
  if frontend.keytype(list) ~= 'list' then return false end
  for _, slot in ipairs(slots_of({list = list}, url)) do
    if redis.call('SISMEMBER', dead, position(slot)) == 1 then return true end
  end
  return false
end

-- frontend.unmark removes the marks of a url's slots from any dead set.
function frontend.unmark(list, dead, url)
  local v = {list = list, dead = dead}
  if frontend.keytype(list) == 'list' then unmark(v, slots_of(v, url)) end
end

-- frontend.closed reports whether a dead set has a mark for every slot of a list.
function frontend.closed(list, dead)
  return frontend.keytype(list) == 'list' and frontend.keytype(dead) == 'set' and
    redis.call('SCARD', dead) >= redis.call('LLEN', list) - 1
end

-- frontend.open removes the marks of members from the dead set of a wildcard's child.
function frontend.open(list, dead, members)
  for slot, url in ipairs(redis.call('LRANGE', list, 1, -1)) do
    if members[url] then redis.call('SREM', dead, position(slot)) end
  end
end

-- frontend.others reports whether a request may reach another slot than those of a member: a wanted one, or an
-- unmarked foreign one.
function frontend.others(v, url)
  for other, m in pairs(v.members) do
    if other ~= url and m.wanted > 0 then return true end
  end
  if frontend.keytype(v.list) ~= 'list' then return false end
  local has_marks = not v.wildcard and frontend.keytype(v.dead) == 'set'
  for slot, entry in ipairs(redis.call('LRANGE', v.list, 1, -1)) do
    if not v.members[entry] and usable(entry) and
      not (has_marks and redis.call('SISMEMBER', v.dead, position(slot)) == 1) then
      return true
    end
  end
  return false
end
