-- announce.lua takes note of a backend that a proxy has marked: a mark that hit
-- another backend than the one that failed is taken back, and so are the marks of a
-- vhost whose every slot is marked. A vhost that nobody registered is left alone.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  the host that was asked for
-- ARGV[3]  the failing backend, canonical
-- ARGV[4]  the marked slot, from 0
-- ARGV[5..] the vhosts that can answer for the host, first match first
--
-- Returns {1 when the mark had hit another backend, id of the instance that did fail or ''}.
local requested, url, slot = ARGV[2], ARGV[3], ARGV[4]
local dead = vhost.dead_of(requested)
local taken, id = 0, ''

local function canonical(entry)
  return entry and string.gsub(string.lower(entry), '/+$', '')
end

for i = 5, #ARGV do
  local host = ARGV[i]
  local list = vhost.list_of(host)
  if frontend.keytype(list) == 'list' then
    if redis.call('EXISTS', c.prefix .. 'vhost:' .. host) == 0 then break end
    if host ~= requested then redis.call('SADD', c.prefix .. 'marked:' .. host, requested) end
    if canonical(redis.call('LINDEX', list, slot + 1)) ~= url and frontend.keytype(dead) == 'set' then
      taken = redis.call('SREM', dead, slot)
      vhost.touch(host) -- the mark may have been ours
    end
    vhost.reopen(host, requested)
    local member = redis.call('HGET', c.prefix .. 'vhost:' .. host, url)
    id = member and string.match(member, '^%d+ %d %d+ (.*)$') or ''
    break
  end
end

return {taken, id}
