-- announce.lua records that a proxy has marked a backend. It removes the mark if it hit another backend than the one
-- that failed. It removes the marks of a vhost if every position is marked. It leaves unregistered vhosts unchanged.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  the requested host
-- ARGV[3]  the failing backend, canonical
-- ARGV[4]  the marked position, from 0
-- ARGV[5..] three values for each vhost that can answer for the host, first match first: its name, its shard, and the
--          term of the caller; '' if the caller does not own the shard, '-' if the caller is no worker
--
-- Returns {1 if a mark was removed from another backend, id of the failing instance or ''}.
local requested, url, slot = ARGV[2], ARGV[3], ARGV[4]
local dead = vhost.dead_of(requested)
local taken, id = 0, ''

local function canonical(entry)
  return entry and string.gsub(string.lower(entry), '/+$', '')
end

for i = 5, #ARGV, 3 do
  local host, shard, term = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local list = vhost.list_of(host)
  if frontend.keytype(list) == 'list' then
    if redis.call('EXISTS', c.prefix .. 'vhost:' .. host) == 0 then break end
    if term == '-' or (term ~= '' and vhost.owned(shard, term)) then
      if host ~= requested then redis.call('SADD', c.prefix .. 'marked:' .. host, requested) end
      if canonical(redis.call('LINDEX', list, slot + 1)) ~= url and frontend.keytype(dead) == 'set' then
        taken = redis.call('SREM', dead, slot)
        vhost.touch(host) -- the mark may have been Rollcall's own
      end
      vhost.reopen(host, requested)
    end
    local m = vhost.member(host, url)
    id = m and m.id or ''
    break
  end
end

return {taken, id}
